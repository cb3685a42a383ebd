-- Accounts and the procedure of docs/tutorial.md:
-- psql -h 127.0.0.1 -p 5433 -d dbos -f procs/examples/transfer.sql
CREATE TABLE account (id bigint PRIMARY KEY, owner text NOT NULL, balance bigint NOT NULL)
    PARTITION BY HASH (id);
INSERT INTO account VALUES (1, 'ada', 100), (2, 'grace', 50);
CREATE PROCEDURE transfer(source bigint, target bigint, amount bigint)
    LANGUAGE c AS 'transfer.so', 'transfer';
