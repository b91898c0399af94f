#!/bin/bash
# Runs one project on a spot VM with a T4, goes on after a preemption, and stops the VM at the end or after a limit of hours.
# Google runs it as root at every start of the VM. A bucket first, then the VM; the names in capitals are yours:
#
#   gcloud storage buckets create gs://BUCKET --location=us-central1
#   gcloud compute instances create VM --zone=us-central1-a \
#     --machine-type=n1-standard-4 --accelerator=type=nvidia-tesla-t4,count=1 --maintenance-policy=TERMINATE \
#     --provisioning-model=SPOT --instance-termination-action=STOP \
#     --image-family=ubuntu-accelerator-2404-amd64-with-nvidia-580 --image-project=ubuntu-os-accelerator-images \
#     --boot-disk-size=100GB --boot-disk-type=pd-balanced --scopes=cloud-platform \
#     --metadata=course-project=PROJECT,course-config=full,course-keep=gs://BUCKET/runs,course-hours=12,course-repository=REPOSITORY \
#     --metadata-from-file=startup-script=helpers/course/spot_vm.sh
#
# PROJECT: such as boat_detection; REPOSITORY: the address to clone. boot-disk-size: the disk of README's table and 40 GB more.
# Watch it:             gcloud compute instances get-serial-port-output VM --zone=us-central1-a
# After a preemption:   gcloud compute instances start VM --zone=us-central1-a     (from its disk; or a new VM, from the bucket:
#                       then never start the first one again, its older disk would win)
# At the end:           gcloud storage cp --recursive gs://BUCKET/runs/report . && gcloud compute instances delete VM --zone=us-central1-a
set -euo pipefail

home=${COURSE_HOME:-/var/course} # tests set another
mkdir -p "$home"
exec > >(tee -a "$home/log.txt") 2>&1

metadata() { curl -fsS -H "Metadata-Flavor: Google" "http://metadata.google.internal/computeMetadata/v1/instance/$1"; }
attribute() { metadata "attributes/$1" || { echo "the VM's metadata lacks $1: see the head of spot_vm.sh" >&2 && return 1; }; }
say() { echo "$(date -u +%FT%TZ) $*"; }

# shellcheck disable=SC2329  # trap calls it
finish() { # whatever happened: nothing costs on; but a preempted VM has no time left and is stopped anyway
  local status=$?
  [ -e "$home/preempted" ] && exit "$status"
  say "ended with status $status, the VM stops"
  if [ -n "${keep:-}" ]; then
    gcloud storage cp --recursive "$home/runs/report" "$keep/report/" || say "there is no report, or it was not copied"
    gcloud storage cp "$home/log.txt" "$keep/report/${project:-vm}.log" || say "the log was not copied"
  fi
  shutdown -h now
}
rm -f "$home/preempted"
trap finish EXIT

keep=$(attribute course-keep)
project=$(attribute course-project)
config=$(attribute course-config)
hours=$(attribute course-hours)
repository=$(attribute course-repository)

for try in $(seq "${COURSE_TRIES:-30}"); do # a driver may still be loading
  nvidia-smi --query-gpu=name,memory.total,driver_version --format=csv,noheader && break
  [ "$try" = "${COURSE_TRIES:-30}" ] && say "no GPU answers: take an image with a driver and --accelerator" && exit 1
  sleep 10
done
df -h "$home"

if [ ! -e "$home/installed" ]; then # a start that was cut off begins again
  apt-get update -q && apt-get install -yq git python3-venv
  rm -rf "$home/course" "$home/venv"
  git clone --depth=1 "$repository" "$home/course"
  python3 -m venv "$home/venv"
  (cd "$home/course" && "$home/venv/bin/pip" install -q -r requirements.txt 'tensorflow[and-cuda]' universal_pathlib gcsfs)
  touch "$home/installed"
fi

cd "$home/course"
say "$project, $config, at most $hours hours"
timeout --kill-after=60 "${hours}h" "$home/venv/bin/python" -m helpers run "$project" --config "$config" \
  --workspace "$home/runs" --keep "$keep" &
run=$!
{ # Google says so 30 seconds before it stops the VM
  until [ "$(metadata 'preempted?wait_for_change=true')" = TRUE ]; do sleep 5; done
  say "preempted"
  touch "$home/preempted"
  kill -TERM "$run"
} &
watch=$!
status=0
wait "$run" || status=$?
kill "$watch" 2>/dev/null || true
[ "$status" = 124 ] && say "the limit of $hours hours is reached; start the VM again to go on"
exit "$status"
