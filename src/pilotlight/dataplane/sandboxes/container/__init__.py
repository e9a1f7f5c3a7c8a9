"""Container sandboxes: Linux namespaces, cgroups and a system call filter, of our own making.

`start` makes the privileged launcher process, `driver` uses it from the unprivileged worker,
`host` says what a machine can and cannot isolate. ``launcher_main``, ``launcher``, ``furnish``,
``zygotes``, ``rootfs``, ``cgroups`` and ``scratch`` run inside the launcher alone. See ``docs/sandbox-container.md``.
"""
