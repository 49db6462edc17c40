"""The web application: a REST interface, durable jobs, and the page. See docs/serve.md.

::

    app (routes) ──▶ study_store, upload_store (rows) ──▶ jobs (durable workflows) ──▶ worker_pool ──▶ worker (process)
                                   └────────────── storage (files) ────────────────────────┘
"""
