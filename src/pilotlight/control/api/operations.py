"""The operations that exist. Whatever the model has beyond these answers 501 by its name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pilotlight.control.api import (
    account,
    aliases,
    functions,
    permissions,
    tagging,
    updates,
    urls,
    versions,
)
from pilotlight.control.api.services import Operation

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "AddPermission": permissions.add_permission,
        "CreateAlias": aliases.create_alias,
        "CreateFunction": functions.create_function,
        "CreateFunctionUrlConfig": urls.create_function_url_config,
        "DeleteAlias": aliases.delete_alias,
        "DeleteFunction": functions.delete_function,
        "DeleteFunctionUrlConfig": urls.delete_function_url_config,
        "GetAccountSettings": account.get_account_settings,
        "GetAlias": aliases.get_alias,
        "GetFunction": functions.get_function,
        "GetFunctionCodeSigningConfig": functions.get_function_code_signing_config,
        "GetFunctionConcurrency": functions.get_function_concurrency,
        "GetFunctionConfiguration": functions.get_function_configuration,
        "GetFunctionUrlConfig": urls.get_function_url_config,
        "GetPolicy": permissions.get_policy,
        "ListAliases": aliases.list_aliases,
        "ListFunctionUrlConfigs": urls.list_function_url_configs,
        "ListFunctions": functions.list_functions,
        "ListTags": tagging.list_tags,
        "ListVersionsByFunction": versions.list_versions_by_function,
        "PublishVersion": versions.publish_version,
        "RemovePermission": permissions.remove_permission,
        "TagResource": tagging.tag_resource,
        "UntagResource": tagging.untag_resource,
        "UpdateAlias": aliases.update_alias,
        "UpdateFunctionCode": updates.update_function_code,
        "UpdateFunctionConfiguration": updates.update_function_configuration,
        "UpdateFunctionUrlConfig": urls.update_function_url_config,
    }
)

LARGE_BODIES = frozenset({"CreateFunction", "UpdateFunctionCode", "PublishLayerVersion"})
"""Operations whose bodies may exceed 6 MB (decision D21)."""
