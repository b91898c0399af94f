// A short clip from the browser's camera as a data URL; camera(seconds) in tryout.py calls it and reads what it returns.
(async (seconds) => {
  const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
  const box = document.body.appendChild(document.createElement("div"));
  const note = box.appendChild(document.createElement("p"));
  const picture = box.appendChild(document.createElement("video"));
  let stream;
  try {
    note.textContent = "The browser asks whether it may use the camera: allow it.";
    stream = await navigator.mediaDevices.getUserMedia({ video: { width: 640, height: 480 }, audio: false });
    Object.assign(picture, { srcObject: stream, muted: true, playsInline: true, width: 480 });
    await picture.play();
    if (window.google) google.colab.output.setIframeHeight(document.documentElement.scrollHeight, true);
    for (let left = 3; left; left--) {
      note.textContent = `Recording begins in ${left} s`;
      await sleep(1000);
    }
    const kinds = ["video/webm;codecs=vp8", "video/webm", "video/mp4"];
    const mimeType = kinds.find((kind) => MediaRecorder.isTypeSupported(kind));
    const recorder = new MediaRecorder(stream, { mimeType, videoBitsPerSecond: 2500000 });
    const parts = [];
    recorder.ondataavailable = (event) => parts.push(event.data);
    const stopped = new Promise((done) => (recorder.onstop = done));
    recorder.start();
    note.textContent = `Recording for ${seconds} s`;
    await sleep(1000 * seconds);
    recorder.stop();
    await stopped;
    const reader = new FileReader();
    const read = new Promise((done) => (reader.onloadend = done));
    reader.readAsDataURL(new Blob(parts, { type: mimeType.split(";")[0] }));
    await read;
    return reader.result;
  } catch (error) {
    return `${error.name}: ${error.message}`;
  } finally {
    if (stream) stream.getTracks().forEach((track) => track.stop());
    box.remove();
  }
})(SECONDS)
