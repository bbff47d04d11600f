"""The keys of secrets, and what encrypts with them. dalsegno/workflow/secrets.py says where secrets are."""
