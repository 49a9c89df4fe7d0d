"""The captions that a run has already, as keys of 63 bits: a set of numbers at 11 to 16 bytes each."""

from array import array

FULL = 0.75
"""Share of the slots that may be taken before there are more of them."""
GROWTH = 1.5


class Keys:
    """A set of whole numbers from 0 below 2^63 that only grows: open addressing with linear probing.

    A Python set of as many numbers takes some 70 to 100 bytes each.
    """

    def __init__(self) -> None:
        self._slots = array("Q", [0]) * 1024  # 0 is an empty slot, so what stands there is the key + 1
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def __contains__(self, key: int) -> bool:
        return self._slots[_slot(self._slots, key + 1)] != 0

    def add(self, key: int) -> None:
        """Have `key` among them."""
        place = _slot(self._slots, key + 1)
        if self._slots[place]:
            return
        self._slots[place] = key + 1
        self._count += 1
        if self._count > FULL * len(self._slots):
            self._grow()

    def _grow(self) -> None:
        before, self._slots = self._slots, array("Q", [0]) * int(GROWTH * len(self._slots))
        for entry in before:
            if entry:
                self._slots[_slot(self._slots, entry)] = entry


def _slot(slots: "array[int]", entry: int) -> int:
    """Return where `entry` stands, or the empty slot where it would."""
    place, size = entry % len(slots), len(slots)
    while (there := slots[place]) and there != entry:
        place = place + 1 if place + 1 < size else 0
    return place
