"""Tools that turn published weights into stored towers. Needed to build what ships, never to use it (extra
``[build]``)."""
