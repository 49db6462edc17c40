"""The routes of the REST interface, each file a router."""
