"""Who may call a function URL whose AuthType is AWS_IAM.

Source: "Using the AWS_IAM auth type" at
https://docs.aws.amazon.com/lambda/latest/dg/urls-auth.html#urls-auth-iam
"""

from __future__ import annotations

from pilotlight.model.function import FunctionUrl
from pilotlight.ports.auth import Caller

ANYBODY = "*"


def admits(url: FunctionUrl, caller: Caller) -> bool:
    """Whether a caller whose signature is right may call the URL.

    Callers of the function's own account are admitted by their identity; those of other accounts
    need a statement of the function's policy that names them, their account or everybody.
    """
    if caller.account == url.account:
        return True
    return ANYBODY in url.callers or f"arn:aws:iam::{caller.account}:root" in url.callers
