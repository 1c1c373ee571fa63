"""Outcomes: the status and the document of each end."""

from __future__ import annotations

from runwait.runs import ending
from runwait.storage.records import RunStatus


def test_success_is_the_graphs_output_whatever_its_type():
    for output in ({"a": 1}, [1], "x", 0, False, ""):
        assert ending.succeeded(output) == ending.Outcome(RunStatus.SUCCESS, output)


def test_an_output_of_none_is_an_empty_object():
    assert ending.succeeded(None).answer == {}


def test_an_interrupted_graph_keeps_its_values_beside_all_interrupts():
    outcome = ending.interrupted({"a": 1}, ["one", "two"])
    assert outcome.status is RunStatus.INTERRUPTED
    assert outcome.answer == {"a": 1, "__interrupt__": ["one", "two"]}


def test_a_breakpoint_adds_no_interrupt():
    assert ending.interrupted({"a": 1}, []).answer == {"a": 1}
    assert ending.interrupted(None, []).answer == {}


def test_an_interrupt_of_a_graph_without_named_values_stands_alone():
    assert ending.interrupted([1, 2], ["one"]).answer == {"__interrupt__": ["one"]}


def test_a_failure_names_its_channel_if_its_message_does_not():
    for said, message in (("no list", "channel 'a': no list"), ("at key 'a'", "at key 'a'")):
        outcome = ending.failed(TypeError(said), "a")
        assert outcome.answer == {"__error__": {"error": "TypeError", "message": message}}


def test_a_failure_names_the_exception_and_keeps_its_message():
    class Odd(Exception):
        pass

    outcome = ending.failed(Odd("no luck"))
    assert outcome.status is RunStatus.ERROR
    assert outcome.answer == {"__error__": {"error": "Odd", "message": "no luck"}}


def test_an_exception_without_a_text_to_be_had_is_still_an_answer():
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    assert ending.failed(Broken()).answer["__error__"]["error"] == "Broken"


def test_a_timeout_has_a_status_of_its_own_and_says_how_long():
    outcome = ending.timed_out(1.5)
    assert outcome.status is RunStatus.TIMEOUT
    assert outcome.answer["__error__"]["error"] == "TimeoutError"
    assert "1.5 seconds" in outcome.answer["__error__"]["message"]


def test_a_fault_says_no_more_than_that_it_is_one():
    assert ending.faulted().answer["__error__"] == {
        "error": "InternalError",
        "message": "a fault in the service ended the run; its log says more",
    }
