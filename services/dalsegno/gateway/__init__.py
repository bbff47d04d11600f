"""The gateway: the public services over HTTP for browsers and curl, and webhooks for third parties."""
