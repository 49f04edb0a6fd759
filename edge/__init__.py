"""doord: the firmware service of an office door unit that opens by face.

Data flows one way: frames -> faces -> probes -> decision -> door -> events.

    cli        the command                      daemon    wires the door together, owns the threads
    control    the daemon's unix socket         config    typed configuration, parsed once
    values     the nouns                        errors    the faults
    ports      what drivers and fakes promise   vision/   camera, models and what runs them, quality
    identity/  gallery, matching, rights, cards door/     the door's table, controller, lines, readers
    doorman    commands to the door             lock      doord-lock, after the daemon's end
    link/      the wire contract and MQTT       disk      SQLite, encryption, keys, atomic files
    recorder   events: to the disk first        uplink    the link to the broker, or none
    access     rights, cards, failures together clock     what time it is, and whether to believe it
    evaluate/  accuracy measured                tools/    setup, doctor, bench
    admin/     a site: its keys, records, doors; signed, published, ordered, collected
    journal    the log, for journald            story     events as lines of it
    log_view   events in columns, JSON, CSV     why       one decision in plain words
    vitals     how the unit itself fares        sight     camera, loop and liveness together
    slowness   slower than it can be?           passphrase  files under a passphrase
"""

__version__ = "0.1.0"
