"""What becomes of a context that several branches change at the same time."""

from __future__ import annotations

import json
from itertools import permutations
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from anysaga._merging import clashes, merge

Object = dict[str, Any]

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 3)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner, max_size=2),
    max_leaves=4,
)
names = st.sampled_from(["a", "b", "c", "d", "", 'a"b', "ä"])
objects = st.dictionaries(names, values, max_size=5)


def text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def exact(text: str) -> Any:
    """The value of a text in which 1, 1.0 and true are three things, as they are in JSON."""
    return json.loads(
        text, parse_int=lambda digits: ("int", digits), parse_float=lambda digits: ("float", float(digits))
    )


def changed(origin: Object, changes: Object, gone: set[str]) -> Object:
    """A copy of `origin` with these changes, the rest in its order."""
    return {name: value for name, value in {**origin, **changes}.items() if name not in gone}


@st.composite
def disjoint_branches(draw: st.DrawFn) -> tuple[Object, list[Object]]:
    """A context and up to three branches of which each changes, adds and removes fields of its own."""
    origin = draw(objects)
    owners = draw(st.dictionaries(names, st.integers(0, 2), max_size=7))
    branches = []
    for branch in range(draw(st.integers(1, 3))):
        own = [name for name, owner in owners.items() if owner == branch]
        gone = {name for name in own if draw(st.booleans())}
        branches.append(changed(origin, {name: draw(values) for name in own}, gone))
    return origin, branches


class TestMerge:
    """`merge(origin, whole, mine)`."""

    @given(disjoint_branches())
    def test_disjoint_changes_give_the_same_in_any_order(self, case: tuple[Object, list[Object]]) -> None:
        origin, branches = case
        results = []
        for order in permutations(branches):
            whole = text(origin)
            for branch in order:
                whole = merge(text(origin), whole, text(branch))
            results.append(exact(whole))

        assert all(result == results[0] for result in results)

    @given(disjoint_branches())
    def test_each_change_arrives(self, case: tuple[Object, list[Object]]) -> None:
        origin, branches = case
        whole = text(origin)
        for branch in branches:
            whole = merge(text(origin), whole, text(branch))

        expected = dict(origin)
        for branch in branches:
            for name in {*origin, *branch}:
                if name not in branch:
                    expected.pop(name, None)
                elif name not in origin or text(branch[name]) != text(origin[name]):
                    expected[name] = branch[name]
        assert exact(whole) == exact(text(expected))

    @given(objects, objects)
    def test_a_branch_that_changed_nothing_leaves_the_whole_as_it_is(self, origin: Object, whole: Object) -> None:
        assert merge(text(origin), text(whole), text(origin)) == text(whole)

    @given(objects, objects)
    def test_a_whole_that_did_not_change_becomes_the_branch(self, origin: Object, mine: Object) -> None:
        assert merge(text(origin), text(origin), text(mine)) == text(mine)

    @given(objects, objects, objects)
    def test_where_both_changed_a_field_the_branch_wins(self, origin: Object, whole: Object, mine: Object) -> None:
        merged = json.loads(merge(text(origin), text(whole), text(mine)))

        for name in clashes(text(origin), text(whole), text(mine)):
            assert text(merged.get(name)) == text(mine.get(name))

    @given(objects, objects, objects)
    def test_what_is_merged_stays_merged(self, origin: Object, whole: Object, mine: Object) -> None:
        once = merge(text(origin), text(whole), text(mine))

        assert exact(merge(text(origin), once, text(mine))) == exact(once)

    @pytest.mark.parametrize(("before", "after"), [("1", "1.0"), ("1", "true"), ("0", "false"), ("0.0", "-0.0")])
    def test_values_that_only_python_takes_for_equal_are_changes(self, before: str, after: str) -> None:
        merged = merge(f'{{"a":{before},"b":0}}', f'{{"a":{before},"b":1}}', f'{{"a":{after},"b":0}}')

        assert merged == f'{{"a":{after},"b":1}}'

    def test_a_removed_field_is_gone(self) -> None:
        assert merge('{"a":1,"b":2}', '{"a":1,"b":3}', '{"b":2}') == '{"b":3}'

    def test_a_field_that_both_removed_is_gone(self) -> None:
        assert merge('{"a":1,"b":2,"c":3}', '{"b":2,"c":4}', '{"b":5,"c":3}') == '{"b":5,"c":4}'

    def test_a_field_that_becomes_null_stays(self) -> None:
        assert merge('{"a":1,"b":2}', '{"a":1,"b":3}', '{"a":null,"b":2}') == '{"a":null,"b":3}'

    def test_fields_keep_the_order_of_the_whole_and_new_ones_come_last(self) -> None:
        assert merge('{"b":1,"a":1}', '{"b":1,"a":2}', '{"new":1,"b":2,"a":1}') == '{"b":2,"a":2,"new":1}'

    def test_only_top_level_fields_are_told_apart(self) -> None:
        merged = merge('{"a":{"x":1,"y":1},"b":1}', '{"a":{"x":2,"y":1},"b":1}', '{"a":{"x":1,"y":2},"b":1}')

        assert merged == '{"a":{"x":1,"y":2},"b":1}'

    @pytest.mark.parametrize(("whole", "mine"), [("[1]", "[1,2]"), ("[1]", '{"a":1}'), ('"x"', "null")])
    def test_a_context_that_is_no_object_is_one_value(self, whole: str, mine: str) -> None:
        assert merge(whole, whole, mine) == mine
        assert merge(whole, mine, whole) == mine

    def test_a_context_that_becomes_no_object_replaces_the_whole(self) -> None:
        assert merge('{"a":1}', '{"a":1,"b":2}', "[1]") == "[1]"


class TestClashes:
    """`clashes(origin, whole, mine)`."""

    @given(disjoint_branches())
    def test_disjoint_changes_do_not_clash(self, case: tuple[Object, list[Object]]) -> None:
        origin, branches = case
        whole = text(origin)
        for branch in branches:
            assert clashes(text(origin), whole, text(branch)) == []
            whole = merge(text(origin), whole, text(branch))

    @given(objects, objects, objects)
    def test_exactly_the_fields_that_both_changed_clash(self, origin: Object, whole: Object, mine: Object) -> None:
        def differs(name: str, other: Object) -> bool:
            if (name in origin) != (name in other):
                return True
            return name in origin and text(origin[name]) != text(other[name])

        both = {name for name in {*origin, *whole, *mine} if differs(name, whole) and differs(name, mine)}
        assert clashes(text(origin), text(whole), text(mine)) == sorted(both)

    def test_the_same_change_twice_is_a_clash(self) -> None:
        assert clashes('{"a":1}', '{"a":2}', '{"a":2}') == ["a"]

    def test_a_field_that_both_added_is_a_clash(self) -> None:
        assert clashes("{}", '{"a":1}', '{"a":2}') == ["a"]

    def test_a_change_of_what_the_other_removed_is_a_clash(self) -> None:
        assert clashes('{"a":1}', "{}", '{"a":2}') == ["a"]

    def test_they_are_ordered_by_name(self) -> None:
        assert clashes('{"b":1,"a":1}', '{"b":2,"a":2}', '{"b":3,"a":3}') == ["a", "b"]

    def test_a_context_that_is_no_object_clashes_as_a_whole(self) -> None:
        assert clashes("[1]", "[2]", "[3]") == ["the whole context"]

    @pytest.mark.parametrize(
        ("whole", "mine"), [("[1]", '{"a":1,"b":2}'), ('{"a":1,"b":2}', "[1]"), ("[1]", '{"a":2}'), ('{"a":2}', "[1]")]
    )
    def test_replacing_the_context_clashes_with_any_other_change(self, whole: str, mine: str) -> None:
        assert "the whole context" in clashes('{"a":1}', whole, mine)
