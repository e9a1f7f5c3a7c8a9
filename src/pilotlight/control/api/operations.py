"""The operations that exist. Whatever the model has beyond these answers 501 by its name."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from pilotlight.control.api import (
    account,
    aliases,
    concurrency,
    eventinvoke,
    functions,
    layers,
    management,
    permissions,
    tagging,
    updates,
    urls,
    versions,
)
from pilotlight.control.api.services import Operation

OPERATIONS: Mapping[str, Operation] = MappingProxyType(
    {
        "AddLayerVersionPermission": layers.add_layer_version_permission,
        "AddPermission": permissions.add_permission,
        "CreateAlias": aliases.create_alias,
        "CreateFunction": functions.create_function,
        "CreateFunctionUrlConfig": urls.create_function_url_config,
        "DeleteAlias": aliases.delete_alias,
        "DeleteFunction": functions.delete_function,
        "DeleteFunctionEventInvokeConfig": eventinvoke.delete_function_event_invoke_config,
        "DeleteFunctionConcurrency": concurrency.delete_function_concurrency,
        "DeleteFunctionUrlConfig": urls.delete_function_url_config,
        "DeleteLayerVersion": layers.delete_layer_version,
        "DeleteProvisionedConcurrencyConfig": concurrency.delete_provisioned_concurrency_config,
        "GetAccountSettings": account.get_account_settings,
        "GetAlias": aliases.get_alias,
        "GetFunction": functions.get_function,
        "GetFunctionCodeSigningConfig": functions.get_function_code_signing_config,
        "GetFunctionConcurrency": concurrency.get_function_concurrency,
        "GetFunctionConfiguration": functions.get_function_configuration,
        "GetFunctionEventInvokeConfig": eventinvoke.get_function_event_invoke_config,
        "GetFunctionRecursionConfig": management.get_function_recursion_config,
        "GetFunctionScalingConfig": management.get_function_scaling_config,
        "GetFunctionUrlConfig": urls.get_function_url_config,
        "GetLayerVersion": layers.get_layer_version,
        "GetLayerVersionByArn": layers.get_layer_version_by_arn,
        "GetLayerVersionPolicy": layers.get_layer_version_policy,
        "GetPolicy": permissions.get_policy,
        "GetProvisionedConcurrencyConfig": concurrency.get_provisioned_concurrency_config,
        "GetRuntimeManagementConfig": management.get_runtime_management_config,
        "ListAliases": aliases.list_aliases,
        "ListFunctionEventInvokeConfigs": eventinvoke.list_function_event_invoke_configs,
        "ListFunctionUrlConfigs": urls.list_function_url_configs,
        "ListFunctions": functions.list_functions,
        "ListLayerVersions": layers.list_layer_versions,
        "ListLayers": layers.list_layers,
        "ListProvisionedConcurrencyConfigs": concurrency.list_provisioned_concurrency_configs,
        "ListTags": tagging.list_tags,
        "ListVersionsByFunction": versions.list_versions_by_function,
        "PublishLayerVersion": layers.publish_layer_version,
        "PublishVersion": versions.publish_version,
        "PutFunctionEventInvokeConfig": eventinvoke.put_function_event_invoke_config,
        "PutFunctionConcurrency": concurrency.put_function_concurrency,
        "PutFunctionRecursionConfig": management.put_function_recursion_config,
        "PutFunctionScalingConfig": management.put_function_scaling_config,
        "PutProvisionedConcurrencyConfig": concurrency.put_provisioned_concurrency_config,
        "PutRuntimeManagementConfig": management.put_runtime_management_config,
        "RemoveLayerVersionPermission": layers.remove_layer_version_permission,
        "RemovePermission": permissions.remove_permission,
        "TagResource": tagging.tag_resource,
        "UntagResource": tagging.untag_resource,
        "UpdateAlias": aliases.update_alias,
        "UpdateFunctionCode": updates.update_function_code,
        "UpdateFunctionConfiguration": updates.update_function_configuration,
        "UpdateFunctionEventInvokeConfig": eventinvoke.update_function_event_invoke_config,
        "UpdateFunctionUrlConfig": urls.update_function_url_config,
    }
)

LARGE_BODIES = frozenset({"CreateFunction", "UpdateFunctionCode", "PublishLayerVersion"})
"""Operations whose bodies may exceed 6 MB (decision D21)."""
