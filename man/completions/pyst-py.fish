complete -c pyst-py -s o -l output -d 'Write to FILE instead of standard output' -r -F
complete -c pyst-py -l force -d 'Write a binary snapshot even to a terminal'
complete -c pyst-py -s v -l verbose -d 'Say how the runtime was found and which layout was used'
complete -c pyst-py -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pyst-py -s V -l version -d 'Print version'
