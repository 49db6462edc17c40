"""The routes of the REST interface; each module has a router."""
