"""Gateways: what a provider is to the flow (`base.py`), and Stripe (`stripe_api.py` translates, `stripe.py` knows keys)."""
