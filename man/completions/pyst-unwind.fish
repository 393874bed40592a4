complete -c pyst-unwind -l lib-search-path -d 'Look for the target\'s files in these folders too, separated by colons' -r
complete -c pyst-unwind -l lib-search-root -d 'Look for the target\'s files anywhere below DIR, by their build-ids' -r -F
complete -c pyst-unwind -l debug-dir -d 'Look for debug files in DIR too, which is laid out like /usr/lib/debug' -r -F
complete -c pyst-unwind -s o -l output -d 'Write to FILE instead of standard output' -r -F
complete -c pyst-unwind -l snapshot-only -d 'Use nothing but what the snapshot holds'
complete -c pyst-unwind -l force -d 'Write a binary snapshot even to a terminal'
complete -c pyst-unwind -s v -l verbose -d 'Say how each stack was found and why it ends'
complete -c pyst-unwind -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pyst-unwind -s V -l version -d 'Print version'
