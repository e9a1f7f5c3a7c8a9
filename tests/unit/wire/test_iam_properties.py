"""What holds for all policies, by hypothesis."""

import contextlib
import json
import re

from hypothesis import given
from hypothesis import strategies as st

from pilotlight.ports.auth import Access, Principal, Verdict
from pilotlight.wire import iam
from pilotlight.wire.iam import Kind, MalformedPolicy
from pilotlight.wire.iam.patterns import arn_matches, matches

ACTIONS = ["lambda:GetFunction", "lambda:InvokeFunction", "s3:GetObject"]
RESOURCES = ["arn:aws:lambda:us-east-1:1:function:a", "arn:aws:lambda:us-east-1:1:function:a:1"]
KEYS = ["aws:SourceArn", "aws:SourceAccount", "aws:PrincipalArn"]

texts = st.text("ab:*?[]!.^$\\-\n", max_size=12)


def oracle(pattern, text):
    """The form of ``fnmatch``, whose brackets mean nothing in policies."""
    wild = {"*": ".*", "?": "."}
    form = "".join(wild.get(letter, re.escape(letter)) for letter in pattern)
    return re.fullmatch(form, text, re.DOTALL) is not None


@given(texts, texts)
def test_wildcards_are_those_of_fnmatch(pattern, text):
    assert matches(pattern, text) == oracle(pattern, text)


@given(st.lists(texts, min_size=6, max_size=6), st.lists(texts, min_size=6, max_size=6))
def test_parts_of_arns_are_compared_apart(patterns, parts):
    patterns = [part.replace(":", "") for part in patterns]
    parts = [part.replace(":", "") for part in parts]
    wanted = all(map(oracle, patterns, parts))
    assert arn_matches(":".join(patterns), ":".join(parts)) == (
        wanted or ":".join(patterns) == ":".join(parts)
    )


def test_no_pattern_takes_for_ever():
    assert not matches("*a" * 500 + "b", "a" * 5000)
    assert not matches("*?a" * 300 + "b", "a" * 3000)


wild = st.sampled_from(["*", "lambda:*", "lambda:Get*", *ACTIONS])
wild_arns = st.sampled_from(["*", "arn:aws:lambda:*:*:function:a*", *RESOURCES])
conditions = st.dictionaries(
    st.sampled_from(["StringEquals", "StringLike", "StringNotEquals", "ArnLikeIfExists", "Null"]),
    st.dictionaries(st.sampled_from(KEYS), st.sampled_from(["a", "*", "true"]), min_size=1),
    max_size=2,
)
principals = st.sampled_from(
    ["*", {"AWS": "111122223333"}, {"AWS": "arn:aws:iam::111122223333:user/a"}]
)


def one_of(name, values):
    lists = st.lists(values, min_size=1, max_size=3)
    return st.tuples(st.sampled_from([name, f"Not{name}"]), lists)


def statements(effects=("Allow", "Deny")):
    def build(effect, action, resource, principal, condition):
        return {
            "Effect": effect,
            action[0]: action[1],
            resource[0]: resource[1],
            "Principal": principal,
            "Condition": condition,
        }

    return st.builds(
        build,
        st.sampled_from(effects),
        one_of("Action", wild),
        one_of("Resource", wild_arns),
        principals,
        conditions,
    )


accesses = st.builds(
    Access,
    st.just(Principal("111122223333", ("arn:aws:iam::111122223333:user/a",))),
    st.sampled_from(ACTIONS),
    st.sampled_from(RESOURCES),
    st.dictionaries(st.sampled_from([key.lower() for key in KEYS]), st.sampled_from(["a", "b"])),
)
RANK = {Verdict.SILENT: 0, Verdict.DELEGATED: 1, Verdict.ALLOWED: 2}


def policy(document):
    return iam.check(json.dumps({"Version": "2012-10-17", "Statement": document}), Kind.RESOURCE)


@given(st.lists(statements(), min_size=1, max_size=4), st.lists(statements()), accesses)
def test_a_denial_wins_over_any_addition(some, more, access):
    if policy(some).verdict(access) is Verdict.DENIED:
        for order in (some + more, more + some):
            assert policy(order).verdict(access) is Verdict.DENIED


@given(st.lists(statements(), min_size=1), st.lists(statements(["Allow"])), accesses)
def test_allowing_more_never_takes_away(some, more, access):
    before, after = policy(some).verdict(access), policy(more + some).verdict(access)
    if before is Verdict.DENIED:
        assert after is Verdict.DENIED
    else:
        assert RANK[after] >= RANK[before]


@given(st.lists(statements(), min_size=1), accesses)
def test_the_order_does_not_matter(some, access):
    assert policy(some).verdict(access) is policy(some[::-1]).verdict(access)


@given(st.lists(statements(), min_size=1), accesses)
def test_what_was_checked_reads_the_same_when_it_is_stored(some, access):
    assert iam.read(some, Kind.RESOURCE).verdict(access) is policy(some).verdict(access)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["Statement", "Effect", "Action", "Resource", "Principal", "Condition", "AWS", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


@given(json_values, st.sampled_from(Kind), accesses)
def test_no_document_breaks_the_reader(value, kind, access):
    text = json.dumps(value)
    iam.read_document(text, kind).verdict(access)
    with contextlib.suppress(MalformedPolicy):
        iam.check(text, kind).verdict(access)
