"""Jobs that come with leaderjob: useful as they are, and examples of how to write one.

Each public module here is a job module: name it in the setting ``jobs`` (``jobs.search_index``) to run
it. An installed leaderjob carries this folder as ``leaderjob.bundled``, so the modules import each
other relatively, the public names of ``leaderjob`` and nothing else of it. Packages that begin with an
underscore are what one job is made of. Nothing of leaderjob itself may live here.
"""
