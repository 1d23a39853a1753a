"""What happens every interval? The operator's loop, run here with a simulated plant.

In: a scenario. Out: a directory with the record, the books, tables, a summary and a report.
"""
