"""A request to the service and its reply: messages, retry, rate limit, codec, errors, and the aiohttp wire.

No module here knows instances.
"""
