complete -c pyst-unwind -s o -l output -d 'Write to FILE instead of standard output' -r -F
complete -c pyst-unwind -l snapshot-only -d 'Use nothing but what the snapshot holds'
complete -c pyst-unwind -l force -d 'Write a binary snapshot even to a terminal'
complete -c pyst-unwind -s v -l verbose -d 'Say how each stack was found and why it ends'
complete -c pyst-unwind -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pyst-unwind -s V -l version -d 'Print version'
