"""The account's limits and what it uses of them."""

from __future__ import annotations

from typing import Any

from pilotlight.control.api.services import Call, Services
from pilotlight.model import limits


async def get_account_settings(services: Services, call: Call) -> dict[str, Any]:
    """GetAccountSettings."""
    config = (await services.config.get(call.scope.account)).config
    stored = await services.usage.of(call.scope.account)
    return {
        "AccountLimit": {
            "TotalCodeSize": config.total_code_bytes,
            "CodeSizeUnzipped": limits.UNZIPPED_BYTES,
            "CodeSizeZipped": limits.PACKAGE_BYTES,
            "ConcurrentExecutions": config.concurrent_executions,
            "UnreservedConcurrentExecutions": max(
                0, config.concurrent_executions - stored.reserved
            ),
        },
        "AccountUsage": {"TotalCodeSize": stored.code_bytes, "FunctionCount": stored.functions},
    }
