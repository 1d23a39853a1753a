"""What may a file from a stranger do? Nothing but be read.

Files are named by people whom nobody knows, and some are read by programs that were never written with strangers in
mind. Three walls stand here, each holding if another falls: a reader of our own passes on what is allowed
(`opendss_reader`), the foreign parser works in a child process that can open, send and start nothing (`confined`,
`barriers`), and what the child answers is data of bounded size.
"""
