"""Mappings: which topic is whose, and which declarations are refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from paho.mqtt.client import topic_matches_sub

from ingest.feeds.mapping import FieldMapping, Router, TopicMapping
from outwatch.domain.errors import ConfigInvalid

LEVEL = st.sampled_from(["a", "b", "", "$SYS"])
TOPICS = st.lists(LEVEL, min_size=1, max_size=4).map("/".join)
FILTERS = st.tuples(st.lists(LEVEL | st.just("+"), max_size=4), st.booleans()).map(
    lambda parts: "/".join([*parts[0], *(["#"] if parts[1] or not parts[0] else [])])
)


def mapping(text: str, **options: Any) -> TopicMapping:
    return TopicMapping(filter=text, **{"sensor": "x", "kind": "y", **options})


def test_the_first_mapping_that_matches_stands() -> None:
    """A narrow one before a wide one, by the order in which they are declared."""
    narrow, wide = mapping("sites/+/motion"), mapping("sites/#")
    assert narrow == Router([narrow, wide]).mapping("sites/a/motion")
    assert wide == Router([wide, narrow]).mapping("sites/a/motion")
    assert wide == Router([narrow, wide]).mapping("sites")
    assert Router([narrow, wide]).mapping("other") is None


@given(st.lists(FILTERS, min_size=1, max_size=4), TOPICS)
def test_the_subscriptions_get_every_topic_that_a_mapping_matches(filters: list[str], topic: str) -> None:
    """Leaving out filters that others cover loses no topic and adds none."""
    subscribed = Router([mapping(text) for text in filters if text] or [mapping("#")]).subscriptions()
    wanted = [text for text in filters if text] or ["#"]
    expected = any(topic_matches_sub(text, topic) for text in wanted)
    assert expected == any(topic_matches_sub(text, topic) for text in subscribed)


def test_covered_filters_are_not_subscribed_to() -> None:
    """A broker may send a message once per subscription that matches."""
    router = Router([mapping("a/+/c"), mapping("a/b/c"), mapping("a/#"), mapping("b"), mapping("b")])
    assert ("a/#", "b") == router.subscriptions()


def test_fields_may_be_declared_as_plain_dictionaries() -> None:
    """As settings dump them."""
    declared = TopicMapping(payload="chirpstack", fields={"t": {"kind": "temperature", "scale": 0.1}})  # type: ignore[dict-item]
    assert {"t": FieldMapping("temperature", None, 0.1)} == declared.fields


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"filter": "a/#/b"}, "topic filter"),
        ({"filter": "a/b+"}, "topic filter"),
        ({"filter": ""}, "topic filter"),
        ({"sensor": None}, "set sensor"),
        ({"kind": None}, "kind or fields"),
        ({"sensor": "{1"}, "template"),
        ({"sensor": "{}"}, "template"),
        ({"zone": "Asia"}, "time zone"),
        ({"payload": "chirpstack"}, "declare in fields"),
        ({"payload": "sensorthings", "kind": None}, "set kind"),
    ],
)
def test_a_mapping_that_cannot_work_is_refused(options: dict[str, Any], reason: str) -> None:
    """When it is declared, not when the first message comes."""
    with pytest.raises(ConfigInvalid, match=reason):
        TopicMapping(**{"filter": "a", "sensor": "x", "kind": "y", **options})
