"""The chapter on task, data, evaluator and released predictions.

`record` has its numbers (evidence `released`), `chapter` the chapter's object, and `data`, `evaluator`,
`rows` and `predictions` are what its notebook displays. Nothing is trained.
"""
