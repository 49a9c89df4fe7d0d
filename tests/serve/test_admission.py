"""Admission by expected wait, on a clock of its own: a queue that is worked off batch by batch."""

import heapq
from contextlib import ExitStack

import pytest

from serve.admission import Admission, Work
from serve.http.problems import ProblemError

PATIENCE, LONGEST = 10, 120


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def work(rows: int = 1, key: str = "a", lane: str = "stages", most: int = 8) -> Work:
    return Work(lane, key, rows, most)


def learn(seconds: float = 1.0) -> Admission:
    """Return an admission that knows how long a batch takes."""
    admission = Admission(PATIENCE, LONGEST, 2, Clock())
    admission.note(work(), seconds)
    return admission


def count_admitted(admission: Admission, one: Work, most: int = 500) -> tuple[int, ProblemError | None]:
    """Return how many requests are let in at once, and how the next is refused."""
    with ExitStack() as stack:
        for count in range(most):
            try:
                stack.enter_context(admission.admit("pairs", [one]))
            except ProblemError as error:
                return count, error
    return most, None


def test_so_many_are_let_in_as_can_be_answered_in_time() -> None:
    count, error = count_admitted(learn(1.0), work())
    assert count == 80  # ten batches of eight
    assert error is not None
    assert (error.kind, error.retry) == ("busy", 2)
    assert "11 s" in error.detail
    assert count_admitted(learn(1.0), work(4))[0] == 20
    assert count_admitted(learn(0.1), work())[0] == 500


def test_when_to_come_back_grows_with_the_queue() -> None:
    admission = learn(1.0)
    with admission.admit("pairs", [work(8 * 40)]), pytest.raises(ProblemError) as refused:
        admission.check("pairs", [work()])
    assert refused.value.retry == 31 and refused.value.room == 10  # 1.25 x 1, rounded up, and 8
    with admission.admit("pairs", [work(8 * 400)]), pytest.raises(ProblemError) as refused:
        admission.check("pairs", [work()])
    assert refused.value.retry == 60


def test_however_slow_a_batch_runs_and_another_gathers() -> None:
    assert count_admitted(learn(30.0), work())[0] == 16
    # But not if the second would end too late.
    assert count_admitted(learn(80.0), work())[0] == 8


def test_with_nothing_before_it_anything_is_let_in_and_unknown_work_takes_no_time() -> None:
    with learn(1000.0).admit("pairs", [work(80)]):
        pass
    assert count_admitted(Admission(PATIENCE, LONGEST, 2), work())[0] == 500


def test_a_lane_that_is_full_holds_up_no_other() -> None:
    admission = learn(30.0)
    with admission.admit("pairs", [work(16)]):
        with admission.admit("captions", [work(lane="captions")]):
            pass
        with pytest.raises(ProblemError):
            admission.check("pairs", [work(lane="captions"), work()])


def test_other_work_of_a_lane_counts() -> None:
    admission = learn(30.0)
    admission.note(work(key="embed", most=1), 0.1)
    with admission.admit("pairs", [work(8)]), pytest.raises(ProblemError, match="about 30 s"):
        admission.check("pairs", [work(key="embed", most=1)])
    admission.check("pairs", [work(key="embed", most=1)])


def test_who_leaves_or_fails_waits_no_longer() -> None:
    admission = learn(30.0)
    with pytest.raises(KeyError), admission.admit("pairs", [work(16)]):
        raise KeyError
    assert count_admitted(admission, work())[0] == 16


def test_before_a_body_is_read_the_least_request_is_tried() -> None:
    admission = learn(1.0)
    admission.check_usual("pairs")
    with admission.admit("pairs", [work(80)]):
        with pytest.raises(ProblemError):
            admission.check_usual("pairs")
        admission.check_usual("embed")  # nobody knows yet what that asks of which lane
    admission.check_usual("pairs")


@pytest.mark.parametrize(("replicas", "seconds"), [(1, 0.8), (1, 4.0), (2, 25.0)])
def test_at_four_times_capacity_all_that_is_let_in_is_answered_and_no_replica_idles(
    replicas: int, seconds: float
) -> None:
    """Requests of one row come at an even pace; each replica takes up to eight of them whenever it is free."""
    clock = Clock()
    admission = Admission(PATIENCE, LONGEST, 2, clock)
    capacity = replicas * 8 / seconds
    pace, horizon = 1 / (4 * capacity), 30 * seconds + 60
    queue: list[tuple[float, ExitStack]] = []
    events: list[tuple[float, int, str, list[tuple[float, ExitStack]]]] = [(0.0, 0, "arrival", [])]
    free, serial = [f"replica {k}" for k in range(replicas)], 0
    answered, late, refused = list[float](), 0, 0
    while events:
        clock.now, _, what, batch = heapq.heappop(events)
        if clock.now > horizon:
            break
        if what == "arrival":
            stack = ExitStack()
            try:
                stack.enter_context(admission.admit("pairs", [work()]))
                queue.append((clock.now, stack))
            except ProblemError:
                refused += 1
            heapq.heappush(events, (clock.now + pace, serial := serial + 1, "arrival", []))
        else:
            free.append(what)
            admission.note(work(), seconds, replica=what)
            for came, stack in batch:
                stack.close()
                answered.append(clock.now)
                late += clock.now - came > LONGEST
        while free and queue:
            batch, queue = queue[:8], queue[8:]
            heapq.heappush(events, (clock.now + seconds, serial := serial + 1, free.pop(), batch))
    assert not late
    assert refused > len(answered)
    settled = horizon / 3  # until then it learns
    assert len([at for at in answered if at > settled]) >= 0.9 * capacity * (horizon - settled - seconds)
