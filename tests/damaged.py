"""Files as they come from a broken disk or a hostile hand: cut short, with other bytes, with some too many."""

from hypothesis import strategies as st


def damaged(content: bytes, tail: int = 0) -> st.SearchStrategy[bytes]:
    """Return a strategy of `content` cut short, with up to four bytes changed, or with a run of others in it.

    tail: half of the changes are in the last so many bytes, where Parquet and zip keep what says where things are.
    """
    places = st.integers(0, len(content) - 1)
    if tail:
        places |= st.integers(max(0, len(content) - tail), len(content) - 1)

    def change(edits: dict[int, int]) -> bytes:
        changed = bytearray(content)
        for place, value in edits.items():
            changed[place] = value
        return bytes(changed)

    def splice(place: int, run: bytes) -> bytes:
        return content[:place] + run + content[place + len(run) :]

    return st.one_of(
        st.builds(lambda end: content[:end], places),
        st.builds(change, st.dictionaries(places, st.integers(0, 255), min_size=1, max_size=4)),
        st.builds(splice, places, st.binary(min_size=1, max_size=24)),
    )
