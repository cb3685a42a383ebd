/* Columns and kinds of dbos.catalog, as DDL writes them and recovery reads them.
 *
 * Thread: any. Memory: none. */
#ifndef DBOS_TXN_CATALOG_ROW_H
#define DBOS_TXN_CATALOG_ROW_H

/* Stored: never renumber. */
enum dbos_catalog_kind { DBOS_CATALOG_TABLE = 1, DBOS_CATALOG_PROCEDURE = 2 };

enum dbos_catalog_column {
    DBOS_CATALOG_KIND,
    DBOS_CATALOG_ID,
    DBOS_CATALOG_NAME,
    DBOS_CATALOG_VERSION,
    DBOS_CATALOG_DEFINITION,
    DBOS_CATALOG_COLUMNS,
};

#endif /* DBOS_TXN_CATALOG_ROW_H */
