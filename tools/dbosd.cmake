# dbosd: the node. Modules find the SDK's functions in this program by name, so it exports its symbols.
dbos_program(dbosd SOURCES main_dbosd.c LIBS dbos_engine)
set_target_properties(dbosd PROPERTIES ENABLE_EXPORTS ON)
