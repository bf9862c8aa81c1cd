"""Providers: what one is to the flow (`base.py`), and Stripe: `stripe_api.py` translates, `stripe.py` holds the key."""
