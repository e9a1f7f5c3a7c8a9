"""Limits of the service, with the values AWS documents.

Source: https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html
"""

from __future__ import annotations

SYNC_PAYLOAD_BYTES = 6 * 1024 * 1024
"""Largest synchronous request."""
ASYNC_PAYLOAD_BYTES = 1024 * 1024
"""Largest asynchronous request."""
SYNC_RESPONSE_BYTES = 6 * 1024 * 1024 + 100
"""Largest response, as the error message of the service states it."""
REQUEST_BODY_BYTES = 70_167_211
"""Largest body of any control-plane request."""
PACKAGE_BYTES = 50 * 1024 * 1024
UNZIPPED_BYTES = 262_144_000
TOTAL_CODE_BYTES = 80_530_636_800
ENVIRONMENT_BYTES = 4096
CLIENT_CONTEXT_BYTES = 3583
LOG_TAIL_BYTES = 4096
INIT_TIMEOUT_S = 10.0
TIMEOUT_MAX_S = 900
ACCOUNT_CONCURRENCY = 1000
UNRESERVED_MINIMUM = 100
COLD_START_BURST = 1000
"""Environments one function may start per `COLD_START_WINDOW_S`."""
COLD_START_WINDOW_S = 10.0
MIB_PER_VCPU = 1769
"""Memory that is worth one vCPU: a function's CPU share grows with its memory."""
