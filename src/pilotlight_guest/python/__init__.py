"""The Python runtime: loads a handler and answers invocations, on any interpreter from 3.9 up.

``runtime.main`` is the one entry point. All its imports happen when it is imported, so that a
zygote pays for them once and user code can never shadow them.
"""
