"""Which request gets which fault, and what the client gets then."""

from __future__ import annotations

from collections import Counter
from functools import partial
from random import Random

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from bandwidth_async.errors import ConfigurationError
from bandwidth_async.sandbox.faults import (
    Delivery,
    Effect,
    Fault,
    FaultMix,
    FaultSelector,
    SendMode,
    apply_fault,
    mix_from,
    parse_fault,
)
from bandwidth_async.sandbox.messages import Response, Stream, error_response

BEFORE = Fault(effect=Effect.RESET, after=False)
AFTER = Fault(effect=Effect.RESET, after=True)
JSON = {"Content-Type": "application/json"}


def trace(text: str, seed: int, length: int) -> list[Fault | None]:
    """Return the faults of ``length`` requests."""
    selector = FaultSelector(mix=FaultMix.parse(text), random=Random(seed))
    return [selector.choose("end") for _ in range(length)]


def test_a_mix_is_read_from_text() -> None:
    """Shares are per cent or fractions; a bare reset or hang is half before and half after the work."""
    mix = FaultMix.parse(
        "503=2%, reset=0.01,hang-after=0.5%,429-after=1%,slow=3%,garbage=4%,cut=5%,cut@0.25=6%,"
    )
    assert mix == FaultMix(
        shares=(
            (Fault(effect=Effect.STATUS, after=False, status=503), 0.02),
            (BEFORE, 0.005),
            (AFTER, 0.005),
            (Fault(effect=Effect.HANG, after=True), 0.005),
            (Fault(effect=Effect.STATUS, after=True, status=429), 0.01),
            (Fault(effect=Effect.SLOW, after=True), 0.03),
            (Fault(effect=Effect.GARBAGE, after=True), 0.04),
            (Fault(effect=Effect.CUT, after=True, share=0.5), 0.05),
            (Fault(effect=Effect.CUT, after=True, share=0.25), 0.06),
        )
    )


@pytest.mark.parametrize(
    "name",
    [
        "",
        "199",
        "600",
        "5xx",
        "slow-before",
        "garbage-after",
        "reset-during",
        "Reset",
        "cut@1",
        "cut@",
        "cut-after",
    ],
)
def test_a_name_that_is_no_fault_is_refused(name: str) -> None:
    """The error repeats the name and shows what there is."""
    with pytest.raises(ConfigurationError, match="is not a fault: write an HTTP status from 200 to 599"):
        parse_fault(name)


@pytest.mark.parametrize("text", ["503", "503=", "503=many", "503=-1%", "503=2 percent"])
def test_a_fault_needs_a_share(text: str) -> None:
    """A fault without a readable share is an error, not a fault that never comes."""
    with pytest.raises(ConfigurationError, match="gives no share of the requests"):
        FaultMix.parse(text)


def test_all_faults_together_are_at_most_every_request() -> None:
    """100 % is allowed, in however many parts; more is an error that says how much it was."""
    assert FaultMix.parse("503=70%,500=20%,reset=10%").at(0.999_999) == AFTER
    with pytest.raises(ConfigurationError, match="add up to 110 % of all requests"):
        FaultMix.parse("503=100%,reset=10%")


def test_a_mix_may_be_given_as_value_text_or_nothing() -> None:
    """Nothing means that nothing goes wrong."""
    mix = FaultMix.parse("503=2%")
    assert [mix_from(mix), mix_from("503=2%"), mix_from(None)] == [mix, mix, FaultMix()]


@given(seed=st.integers())
def test_the_same_seed_gives_the_same_trace(seed: int) -> None:
    """Faults depend on the seed and the order of requests, on nothing else."""
    text = "503=20%,reset=20%,slow=20%"
    assert trace(text, seed, 50) == trace(text, seed, 50)


def test_shares_are_respected() -> None:
    """Over many requests every fault comes about as often as its share says."""
    met = Counter(trace("503=20%,reset=10%", seed=1, length=20_000))
    assert {fault: round(count / 20_000, 2) for fault, count in met.items()} == {
        None: 0.7,
        Fault(effect=Effect.STATUS, after=False, status=503): 0.2,
        BEFORE: 0.05,
        AFTER: 0.05,
    }


def test_planned_faults_come_first_and_leave_the_rest_as_it_was() -> None:
    """Plans are used in order. The requests after them get the faults that they would have got anyway."""
    text = "500=50%"
    selector = FaultSelector(mix=FaultMix.parse(text), random=Random(7))
    selector.plan("503", 2)
    selector.plan("hang-after", 1)
    unavailable = Fault(effect=Effect.STATUS, after=False, status=503)
    planned = [unavailable, unavailable, Fault(effect=Effect.HANG, after=True)]
    assert [selector.choose("end") for _ in range(30)] == planned + trace(text, 7, 30)[3:]


def test_a_planned_bare_reset_is_chosen_before_or_after() -> None:
    """Also a planned reset is half before, half after, by the seed."""
    selector = FaultSelector(mix=FaultMix(), random=Random(1))
    selector.plan("reset", 1000)
    met = Counter(selector.choose("end") for _ in range(1000))
    assert set(met) == {BEFORE, AFTER}
    assert 400 < met[BEFORE] < 600


def test_a_plan_may_be_for_one_kind_of_request() -> None:
    """It waits for a request of that kind, and comes before a plan for any kind."""
    selector = FaultSelector(mix=FaultMix(), random=Random(1))
    selector.plan("503", 1)
    selector.plan("reset-after", 2, "download")
    unavailable = Fault(effect=Effect.STATUS, after=False, status=503)
    met = [selector.choose(kind) for kind in ("download", "end", "end", "download", "download")]
    assert met == [AFTER, unavailable, None, AFTER, None]


def test_a_plan_for_no_request_is_refused() -> None:
    """Planning a fault zero times is a mistake."""
    with pytest.raises(ConfigurationError, match="plan at least 1"):
        FaultSelector(mix=FaultMix(), random=Random(1)).plan("503", 0)


@pytest.mark.parametrize(
    ("name", "done", "delivery"),
    [
        ("503", 0, Delivery(mode=SendMode.WHOLE, counted_as="503", response=error_response(503, "no"))),
        ("503-after", 1, Delivery(mode=SendMode.WHOLE, counted_as="503", response=error_response(503, "no"))),
        ("reset-before", 0, Delivery(mode=SendMode.RESET, counted_as="reset-before")),
        ("reset-after", 1, Delivery(mode=SendMode.RESET, counted_as="reset-after")),
        ("hang-before", 0, Delivery(mode=SendMode.HANG, counted_as="hang-before")),
        ("hang-after", 1, Delivery(mode=SendMode.HANG, counted_as="hang-after")),
        (
            "slow",
            1,
            Delivery(
                mode=SendMode.SLOW,
                counted_as="200",
                response=Response(status=200, headers=JSON, body=b"{}" + b" " * 88),
            ),
        ),
        (
            "garbage",
            1,
            Delivery(
                mode=SendMode.WHOLE,
                counted_as="200",
                response=Response(status=200, headers=JSON, body=b'{"garbage": \xff'),
            ),
        ),
    ],
)
def test_a_fault_decides_whether_the_work_is_done_and_how_the_response_is_sent(
    name: str, done: int, delivery: Delivery
) -> None:
    """Before: no work is done. After: it is done, and the response is replaced or lost."""
    worked: list[bool] = []

    def work() -> Response:
        worked.append(True)
        return Response(status=204)

    (fault,) = parse_fault(name)
    assert apply_fault(fault, work, lambda status: error_response(status, "no")) == delivery
    assert len(worked) == done


@pytest.mark.parametrize(("share", "length"), [("0", 0), ("0.3", 30), ("0.999", 99)])
def test_a_cut_response_is_sent_in_part(share: str, length: int) -> None:
    """The headers have the whole length. A stream is cut like a body. Never is all of it sent."""
    (fault,) = parse_fault(f"cut@{share}")
    stream = Stream(size=100, blocks=lambda: iter([b"x" * 100]))
    for response in (Response(status=200, body=b"x" * 100), Response(status=200, stream=stream)):
        delivery = apply_fault(fault, partial(evolve, response), lambda status: error_response(status, "no"))
        assert delivery == Delivery(mode=SendMode.CUT, counted_as="cut", response=response, length=length)
    nothing = apply_fault(fault, lambda: Response(status=204), lambda status: error_response(status, "no"))
    assert nothing == Delivery(mode=SendMode.RESET, counted_as="cut")


@pytest.mark.parametrize(("name", "streamed"), [("slow", True), ("garbage", False)])
def test_a_stream_gets_faults_too(name: str, streamed: bool) -> None:
    """Slow: the same bytes, one a second. Garbage: nothing of it is left."""
    (fault,) = parse_fault(name)
    stream = Stream(size=100, blocks=lambda: iter([b"x" * 100]))
    response = apply_fault(
        fault, lambda: Response(status=200, stream=stream), lambda status: error_response(status, "")
    ).response
    assert response is not None
    assert (response.stream is stream, bool(response.body)) == (streamed, not streamed)


def test_without_a_fault_the_response_is_sent_as_it_is() -> None:
    """No fault, no change."""
    response = error_response(404, "gone")
    assert apply_fault(None, lambda: response, lambda status: error_response(status, "no")) == Delivery(
        mode=SendMode.WHOLE, counted_as="404", response=response
    )


@given(body=st.binary(max_size=200))
def test_a_slow_response_takes_over_a_minute_at_a_byte_a_second(body: bytes) -> None:
    """The body is padded with blanks, which JSON ignores, and keeps status and content."""
    (slow,) = parse_fault("slow")
    response = apply_fault(
        slow, lambda: Response(status=400, body=body), lambda status: Response(status=status)
    ).response
    assert response is not None
    assert (response.status, len(response.body) > 60) == (400, True)
    assert response.body.startswith(body)
