"""Notifications: recipients, timing and delivery over the in-app log, Web Push, APNs and webhooks."""
