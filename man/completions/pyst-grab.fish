complete -c pyst-grab -l pid -d 'Capture this process' -r
complete -c pyst-grab -l core -d 'Capture from this core file, whatever its name' -r -F
complete -c pyst-grab -l count -d 'Capture N times' -r
complete -c pyst-grab -l interval -d 'Begin every S seconds; fractions are fine [default: 1]' -r
complete -c pyst-grab -l locals-limit -d 'Read no more than BYTES of the process for arguments and locals; K and M may follow the number' -r
complete -c pyst-grab -l no-block -d 'Do not stop the process: read it while it runs' -r -f -a "fallback\t'They are stopped'"
complete -c pyst-grab -l stop-limit -d 'Let the process go after MS milliseconds, whatever is missing then' -r
complete -c pyst-grab -l lib-search-path -d 'Look for the target\'s files in these folders too, separated by colons' -r
complete -c pyst-grab -l lib-search-root -d 'Look for the target\'s files anywhere below DIR, by their build-ids' -r -F
complete -c pyst-grab -l debug-dir -d 'Look for debug files in DIR too, which is laid out like /usr/lib/debug' -r -F
complete -c pyst-grab -s o -l output -d 'Write to FILE instead of standard output' -r -F
complete -c pyst-grab -l children -d 'Capture all processes that descend from this one, too'
complete -c pyst-grab -l python-only -d 'Leave out stacks and native frames'
complete -c pyst-grab -l no-source -d 'Leave out the lines of Python source'
complete -c pyst-grab -l debug-info -d 'Take along lines and inlined functions of native frames, where this machine has debug information'
complete -c pyst-grab -l locals -d 'Take along arguments and locals of Python frames'
complete -c pyst-grab -l exhaustive -d 'Search all memory for the Python runtime, if it is not where it should be'
complete -c pyst-grab -l force -d 'Write a binary snapshot even to a terminal'
complete -c pyst-grab -s v -l verbose -d 'Say how the runtime was found, how long the process was stopped, and how large the snapshot is'
complete -c pyst-grab -s h -l help -d 'Print help (see more with \'--help\')'
complete -c pyst-grab -s V -l version -d 'Print version'
