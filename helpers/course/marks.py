"""What commands write into a text that is written by hand: the part between two marks."""


def fill(text: str, begin: str, end: str, made: str, *, name: str) -> str:
    """The text with `made` between its marks, which stay.

    ValueError, with the file's `name`: the text lacks the two marks, or they stand the other way round.
    """
    before, _, rest = text.partition(begin)
    _, found, after = rest.partition(end)
    if not found:
        raise ValueError(
            f"{name}: received no two marks to write between; allowed: a line {begin} and, after it, a line {end}"
        )
    return f"{before}{begin}{made}{end}{after}"
