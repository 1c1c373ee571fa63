"""LangGraph's event protocol (contract section 11), over runs and their events.

It has no rules of its own about runs. What a client commands becomes a request for a run, which is
admitted as any other; the run's events are logged as those of any other that can be resumed, so
that they can be joined too. A subscription follows the runs of a thread one after the other, as
GET /threads/{id}/stream does, and gives their events another form. See
docs/decisions/event-protocol.md.
"""
