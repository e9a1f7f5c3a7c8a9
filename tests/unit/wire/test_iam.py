"""What policies say, by a table; and which documents are refused when they are written."""

import json

import pytest

from pilotlight.ports.auth import Access, Principal, Verdict
from pilotlight.wire import iam
from pilotlight.wire.iam import Kind, MalformedPolicy

HOME = "111122223333"
AWAY = "444455556666"
FUNCTION = f"arn:aws:lambda:us-east-1:{HOME}:function:orders"
USER = f"arn:aws:iam::{HOME}:user/ann"
ROLE = f"arn:aws:iam::{HOME}:role/ops"
SESSION = f"arn:aws:sts::{HOME}:assumed-role/ops/ann"


def access(action="lambda:InvokeFunction", resource=FUNCTION, principal=None, **context):
    who = principal or Principal(HOME, (USER,))
    keys = {name.replace("__", ":").lower(): value for name, value in context.items()}
    return Access(who, action, resource, keys)


def identity(*statements):
    return iam.check(json.dumps({"Version": "2012-10-17", "Statement": statements}), Kind.IDENTITY)


def resource(*statements):
    return iam.check(json.dumps({"Version": "2012-10-17", "Statement": statements}), Kind.RESOURCE)


def allow(**members):
    return {"Effect": "Allow", "Action": "lambda:*", "Resource": "*"} | members


def deny(**members):
    return {"Effect": "Deny", "Action": "lambda:*", "Resource": "*"} | members


@pytest.mark.parametrize(
    ("statement", "asked", "wanted"),
    [
        (allow(), access(), Verdict.ALLOWED),
        (allow(Action="*"), access(), Verdict.ALLOWED),
        (allow(Action="LAMBDA:invokefunction"), access(), Verdict.ALLOWED),
        (allow(Action="lambda:Get*"), access(), Verdict.SILENT),
        (allow(Action=["s3:*", "lambda:Invoke?unction"]), access(), Verdict.ALLOWED),
        (allow(Resource=FUNCTION), access(), Verdict.ALLOWED),
        (allow(Resource=FUNCTION), access(resource=f"{FUNCTION}:1"), Verdict.SILENT),
        (allow(Resource=f"{FUNCTION}:*"), access(resource=f"{FUNCTION}:1"), Verdict.ALLOWED),
        (allow(Resource=FUNCTION.upper().replace("ARN", "arn")), access(), Verdict.SILENT),
        (allow(Resource="arn:aws:lambda:*:*:function:ord*"), access(), Verdict.ALLOWED),
        (deny(), access(), Verdict.DENIED),
        (deny(Resource="arn:aws:lambda:*:*:function:other"), access(), Verdict.SILENT),
    ],
)
def test_a_statement_says(statement, asked, wanted):
    assert identity(statement).verdict(asked) is wanted


def test_everything_but():
    policy = identity({"Effect": "Allow", "NotAction": "lambda:Delete*", "Resource": "*"})
    assert policy.verdict(access()) is Verdict.ALLOWED
    assert policy.verdict(access("lambda:DeleteFunction")) is Verdict.SILENT
    spared = identity({"Effect": "Deny", "Action": "*", "NotResource": FUNCTION})
    assert spared.verdict(access()) is Verdict.SILENT
    assert spared.verdict(access(resource=FUNCTION + "s")) is Verdict.DENIED


@pytest.mark.parametrize(
    ("condition", "context", "is_met"),
    [
        ({"StringEquals": {"aws:SourceAccount": HOME}}, {"aws__SourceAccount": HOME}, True),
        ({"StringEquals": {"AWS:SourceAccount": [AWAY, HOME]}}, {"aws__SourceAccount": HOME}, True),
        ({"StringEquals": {"aws:SourceAccount": HOME}}, {"aws__SourceAccount": AWAY}, False),
        ({"StringEquals": {"aws:SourceAccount": HOME}}, {}, False),
        ({"StringEqualsIfExists": {"aws:SourceAccount": HOME}}, {}, True),
        (
            {"StringEqualsIfExists": {"aws:SourceAccount": HOME}},
            {"aws__SourceAccount": AWAY},
            False,
        ),
        ({"StringNotEquals": {"aws:SourceAccount": HOME}}, {}, True),
        ({"StringNotEquals": {"aws:SourceAccount": [HOME]}}, {"aws__SourceAccount": HOME}, False),
        ({"StringLike": {"aws:PrincipalArn": "arn:*:user/a?n"}}, {"aws__PrincipalArn": USER}, True),
        ({"StringLike": {"aws:PrincipalArn": "arn:*:user/a?"}}, {"aws__PrincipalArn": USER}, False),
        (
            {"ArnLike": {"aws:SourceArn": "arn:aws:s3:::bucket*"}},
            {"aws__SourceArn": "arn:aws:s3:::bucket-1"},
            True,
        ),
        (
            {"ArnEquals": {"aws:SourceArn": "arn:aws:sns:*:1:t"}},
            {"aws__SourceArn": "arn:aws:sns:a:b:1:t"},
            False,
        ),
        (
            {"Bool": {"lambda:InvokedViaFunctionUrl": True}},
            {"lambda__InvokedViaFunctionUrl": "true"},
            True,
        ),
        (
            {"Bool": {"lambda:InvokedViaFunctionUrl": "true"}},
            {"lambda__InvokedViaFunctionUrl": "false"},
            False,
        ),
        ({"Null": {"aws:SourceArn": "true"}}, {}, True),
        ({"Null": {"aws:SourceArn": "false"}}, {}, False),
        ({"ForAnyValue:StringEquals": {"aws:PrincipalOrgID": ["o-1", "o-2"]}}, {}, False),
        (
            {"ForAnyValue:StringEquals": {"aws:PrincipalOrgID": ["o-1", "o-2"]}},
            {"aws__PrincipalOrgID": "o-2"},
            True,
        ),
        ({"ForAllValues:StringEquals": {"aws:PrincipalOrgID": "o-1"}}, {}, True),
        (
            {"StringEquals": {"aws:SourceAccount": HOME}, "ArnLike": {"aws:SourceArn": "*"}},
            {"aws__SourceAccount": HOME},
            False,
        ),
    ],
)
def test_a_condition_is_met(condition, context, is_met):
    wanted = Verdict.ALLOWED if is_met else Verdict.SILENT
    assert identity(allow(Condition=condition)).verdict(access(**context)) is wanted


@pytest.mark.parametrize(
    ("principal", "asker", "wanted"),
    [
        ("*", Principal(AWAY, ("x",)), Verdict.ALLOWED),
        ({"AWS": "*"}, Principal(AWAY, ("x",)), Verdict.ALLOWED),
        ({"AWS": HOME}, Principal(HOME, (USER,)), Verdict.DELEGATED),
        ({"AWS": f"arn:aws:iam::{HOME}:root"}, Principal(HOME, (USER,)), Verdict.DELEGATED),
        ({"AWS": f"arn:aws:iam::{HOME}:root"}, Principal(AWAY, ("x",)), Verdict.SILENT),
        ({"AWS": USER}, Principal(HOME, (USER,)), Verdict.ALLOWED),
        ({"AWS": [ROLE, USER]}, Principal(HOME, (SESSION, ROLE)), Verdict.ALLOWED),
        ({"AWS": SESSION}, Principal(HOME, (SESSION, ROLE)), Verdict.ALLOWED),
        (
            {"Service": "s3.amazonaws.com"},
            Principal("", service="s3.amazonaws.com"),
            Verdict.ALLOWED,
        ),
        (
            {"Service": "s3.amazonaws.com"},
            Principal("", service="sns.amazonaws.com"),
            Verdict.SILENT,
        ),
        ({"Service": "s3.amazonaws.com"}, Principal(HOME, (USER,)), Verdict.SILENT),
        ({"AWS": HOME}, Principal("", service="s3.amazonaws.com"), Verdict.SILENT),
        ({"Federated": "cognito-identity.amazonaws.com"}, Principal(HOME, (USER,)), Verdict.SILENT),
    ],
)
def test_a_principal_is_meant(principal, asker, wanted):
    policy = resource(allow(Principal=principal))
    assert policy.verdict(access(principal=asker)) is wanted


@pytest.mark.parametrize(
    ("own", "of_resource", "is_same", "is_allowed", "reason"),
    [
        (Verdict.ALLOWED, Verdict.SILENT, True, True, ""),
        (Verdict.SILENT, Verdict.ALLOWED, True, True, ""),
        (Verdict.SILENT, Verdict.DELEGATED, True, False, "because no identity-based policy allows"),
        (Verdict.SILENT, Verdict.SILENT, True, False, "because no identity-based policy allows"),
        (Verdict.ALLOWED, Verdict.SILENT, False, False, "because no resource-based policy allows"),
        (Verdict.SILENT, Verdict.ALLOWED, False, False, "because no identity-based policy allows"),
        (Verdict.ALLOWED, Verdict.ALLOWED, False, True, ""),
        (Verdict.ALLOWED, Verdict.DELEGATED, False, True, ""),
        (Verdict.DENIED, Verdict.ALLOWED, True, False, "explicit deny in an identity-based policy"),
        (Verdict.ALLOWED, Verdict.DENIED, True, False, "explicit deny in a resource-based policy"),
    ],
)
def test_verdicts_join(own, of_resource, is_same, is_allowed, reason):
    decision = iam.decide(
        own,
        of_resource,
        is_same_account=is_same,
        who=USER,
        action="lambda:GetFunction",
        what=FUNCTION,
    )
    assert decision.is_allowed is is_allowed
    assert reason in decision.reason
    if not is_allowed:
        start = f"User: {USER} is not authorized to perform: lambda:GetFunction on resource: "
        assert decision.reason.startswith(start + FUNCTION)


def test_services_need_the_resource_to_say_so():
    asked = {"service": "s3.amazonaws.com", "action": "lambda:InvokeFunction", "what": FUNCTION}
    assert iam.decide_service(Verdict.ALLOWED, **asked).is_allowed
    for verdict in (Verdict.SILENT, Verdict.DELEGATED, Verdict.DENIED):
        assert not iam.decide_service(verdict, **asked).is_allowed


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ("{", "invalid Json"),
        ("[]", "invalid Json"),
        ("[" * 100_000, "invalid Json"),
        ('{"Statement":[]}', "Syntax errors in policy."),
        ('{"Version":"2013-01-01","Statement":{}}', "valid version string"),
        ('{"Version":"2012-10-17","Statement":[1]}', "Syntax errors"),
        ('{"Version":"2012-10-17","Other":1,"Statement":[{}]}', "Syntax errors"),
    ],
)
def test_what_is_no_policy_is_refused(document, words):
    with pytest.raises(MalformedPolicy, match=words):
        iam.check(document, Kind.IDENTITY)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"Effect": "allow"}, "Syntax"),
        ({"Sid": "not allowed!"}, "Syntax"),
        ({"Action": None}, "Syntax"),
        ({"Action": []}, "Syntax"),
        ({"Action": "InvokeFunction"}, "prefaced by a vendor"),
        ({"NotAction": "lambda:Get*"}, "Syntax"),
        ({"Resource": "orders"}, "must be in ARN format"),
        ({"Resource": "arn:aws:s3:::home/${aws:username}"}, "variables"),
        ({"Principal": "*"}, "should not specify a principal"),
        ({"Condition": {"NumericLessThan": {"aws:MultiFactorAuthAge": "3600"}}}, "not supported"),
        ({"Condition": {"StringEquals": {"aws:SourceIp": "1.2.3.4"}}}, "not supported"),
        ({"Condition": {"StringEquals": {"aws:username": "${aws:userid}"}}}, "variables"),
        ({"Condition": {"StringEquals": "x"}}, "Syntax"),
        ({"Condition": []}, "Syntax"),
        ({"Unknown": 1}, "Syntax"),
    ],
)
def test_a_statement_that_is_not_understood_is_refused(changes, words):
    with pytest.raises(MalformedPolicy, match=words):
        identity(allow(**changes))


def test_members_that_must_be_there():
    with pytest.raises(MalformedPolicy, match="must contain actions"):
        identity({"Effect": "Allow", "Resource": "*"})
    with pytest.raises(MalformedPolicy, match="must contain resources"):
        identity({"Effect": "Allow", "Action": "*"})
    with pytest.raises(MalformedPolicy, match="Principal"):
        resource(allow())
    with pytest.raises(MalformedPolicy, match="must be unique"):
        identity(allow(Sid="A"), deny(Sid="A"))
    with pytest.raises(MalformedPolicy, match="Invalid principal"):
        resource(allow(Principal={"AWS": "arn:aws:iam::1:user/*"}))


def test_a_trust_policy_is_about_its_role():
    statement = {
        "Effect": "Allow",
        "Principal": {"Service": "lambda.amazonaws.com"},
        "Action": "sts:AssumeRole",
    }
    policy = iam.check(json.dumps({"Statement": statement}), Kind.TRUST)
    asker = Principal("", service="lambda.amazonaws.com")
    assert policy.verdict(access("sts:AssumeRole", ROLE, asker)) is Verdict.ALLOWED
    with pytest.raises(MalformedPolicy, match="prohibited field Resource"):
        iam.check(json.dumps({"Statement": statement | {"Resource": "*"}}), Kind.TRUST)


@pytest.mark.parametrize(
    "changes",
    [
        {"Condition": {"IpAddress": {"aws:SourceIp": "10.0.0.0/8"}}},
        {"Condition": {"StringEquals": {"aws:SourceVpc": "vpc-1"}}},
        {"Condition": 7},
        {"Resource": "arn:aws:lambda:*:*:function:${aws:username}"},
        {"Resource": {"a": 1}},
        {"Action": 3},
        {"NotPrincipal": {"AWS": "*"}},
        {"Principal": {"Somebody": "*"}},
        {"Principal": None},
    ],
)
def test_what_is_stored_and_not_understood_never_lets_in(changes):
    granted = iam.read([allow(Principal="*") | changes], Kind.RESOURCE)
    denied = iam.read([deny(Principal="*") | changes], Kind.RESOURCE)
    assert granted.verdict(access()) is Verdict.SILENT
    assert denied.verdict(access()) is Verdict.DENIED


@pytest.mark.parametrize("kind", Kind)
def test_a_stored_document_that_is_damaged_denies(kind):
    assert iam.read_document("{", kind).verdict(access()) is Verdict.DENIED
    assert iam.read([7], kind).verdict(access()) is Verdict.DENIED


def test_a_resource_policy_without_a_principal_admits_nobody():
    assert iam.read([allow()], Kind.RESOURCE).verdict(access()) is Verdict.SILENT


def test_the_owner_is_in_the_arn():
    assert iam.owner_of(FUNCTION, AWAY) == HOME
    assert iam.owner_of("arn:aws:s3:::bucket", AWAY) == AWAY
    assert iam.owner_of("*", AWAY) == AWAY
