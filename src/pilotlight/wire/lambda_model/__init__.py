"""The Lambda API as data: generated tables, and the objects built from them when first asked for.

`operations`, `shapes` and `errors` are written by ``scripts/generate_lambda_api.py`` and are
plain literals; `model` gives them types and applies the documented differences between the
published model and what the service answers.
"""
