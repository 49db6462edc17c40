"""The web application: a REST interface, jobs that outlive any process, and one page. docs/serve.md explains it.

::

    app (routes) ──▶ studies, uploads (rows) ──▶ jobs (durable workflows) ──▶ crew (child processes) ──▶ work
                                   └────────── storage (files) ──────────────────────┘
"""
