"""The form that messages have for a broker."""

from __future__ import annotations

import json

from anysaga.abc import Message


def test_the_source_of_an_envelope_is_a_uri() -> None:
    """A name may have characters that a URI has not, and receivers refuse what is none."""
    message = Message("1", "paid", "{}", 0, "1", "Bücher & more/2", "Pay")
    envelope = json.loads(message.to_json())
    assert (envelope["source"], envelope["saga"]) == ("/sagas/B%C3%BCcher%20%26%20more%2F2", "Bücher & more/2")


def test_an_envelope_is_json_whatever_its_names_are() -> None:
    message = Message('"o"/1/act/1', 'the "type"', "{}", 0, '"o"', 'an "order"', 'P\\y"')
    envelope = json.loads(message.to_json())
    assert (envelope["id"], envelope["type"], envelope["subject"]) == (message.id, message.type, message.saga_id)
    assert (envelope["saga"], envelope["sagaid"], envelope["step"]) == (message.saga, message.saga_id, message.step)


def test_the_envelope_is_a_cloud_event() -> None:
    message = Message("o/1/act/1", "order.paid", '{"number":1}', 1_700_000_000_000_001, "o", "order", "Pay")
    assert message.to_json().decode() == (
        '{"specversion":"1.0","id":"o/1/act/1","source":"/sagas/order","type":"order.paid","subject":"o",'
        '"time":"2023-11-14T22:13:20.000001Z","saga":"order","sagaid":"o","step":"Pay",'
        '"datacontenttype":"application/json","data":{"number":1}}'
    )
