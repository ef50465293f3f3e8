"""What the search job is made of: readers of corpora, the index, and the answering of queries.

``document`` says what is indexed; ``python_symbols``, ``folder`` and ``json_lines`` each read one kind
of corpus into documents and ``corpus`` picks one of them; ``index`` writes and opens the Tantivy index;
``ranking`` turns the words of a query into a Tantivy query and ``answers`` into results.
The job itself (its schedule, parameters and progress) lives in ``jobs.search_index`` and not here.
"""
