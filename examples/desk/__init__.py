"""The lending desk of a small library: a FastAPI application on Everwhen.

    PYTHONPATH=examples python -m desk desk.db --workers 2

Books are borrowed and returned by HTTP, by several processes on one store. `lending` has the rules,
`shelves` the read model, `application` the web.
"""
