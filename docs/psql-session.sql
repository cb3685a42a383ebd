-- A session with dbosd, as psql prints it: docs/psql-session.out is this file's output, and a test
-- compares the two. Run it yourself on a fresh node:
--   psql -X -a -v VERBOSITY=verbose -h 127.0.0.1 -p 5433 -U alice -d dbos -f docs/psql-session.sql

-- Create, load, query.
CREATE TABLE account (
    id int PRIMARY KEY,
    owner varchar(20) NOT NULL,
    balance bigint NOT NULL DEFAULT 0,
    opened timestamptz
) PARTITION BY HASH (id);
CREATE INDEX account_owner ON account (owner);
INSERT INTO account VALUES
    (1, 'ann', 100, '2026-01-02 03:04:05+00'),
    (2, 'bob', 50, '2026-02-03 04:05:06.789+02'),
    (3, 'cyd', 0, NULL);
INSERT INTO account (id, owner) VALUES (4, 'dan');
SELECT id, owner, balance, opened FROM account ORDER BY id;
SELECT count(*), sum(balance), min(owner), max(balance), avg(balance) FROM account;
SELECT upper(owner) AS name, balance / 10 AS tens FROM account WHERE balance BETWEEN 1 AND 100
    ORDER BY balance DESC LIMIT 1;
UPDATE account SET balance = balance + 25 WHERE owner = 'cyd';
DELETE FROM account WHERE id = 4;

-- A procedure, in SQL here; docs/tutorial.md has one in C.
CREATE PROCEDURE deposit(account int, amount bigint) LANGUAGE sql AS
    'UPDATE account SET balance = balance + $2 WHERE id = $1';
CALL deposit(1, 10);
SELECT balance FROM account WHERE id = 1;

-- transfer (procs/examples/transfer.c) moves money, or aborts and nothing remains.
CREATE PROCEDURE transfer(source int, target int, amount bigint)
    LANGUAGE c AS 'transfer.so', 'transfer';
CALL transfer(1, 2, 60);
CALL transfer(1, 2, 1000);
-- This one has taken the money when it finds that account 99 is not there.
CALL transfer(1, 99, 10);
SELECT id, balance FROM account ORDER BY id;

-- Errors: each with its SQLSTATE, and the session goes on.
SELEC 1;
SELECT * FROM nowhere;
CREATE TABLE account (id int);
SELECT colour FROM account;
INSERT INTO account VALUES (1, 'eve', 1, NULL);
INSERT INTO account (id) VALUES (9);
INSERT INTO account VALUES ('nine', 'eve', 1, NULL);
INSERT INTO account VALUES (9, 'a name of more than 20 characters', 1, NULL);
INSERT INTO account VALUES (9999999999, 'eve', 1, NULL);
SELECT 2147483647 + 1;
SELECT 1 / (balance - balance) FROM account WHERE id = 1;
SELECT frobnicate(1);
CALL deposit(1);
SELECT a.id FROM account a JOIN account b ON a.id = b.id;
BEGIN;
CREATE TABLE priced (id int PRIMARY KEY, price numeric);

-- Limits: a column of 1 MB and a byte, a row of 2 MB and a byte, a result over 50 MB.
CREATE TABLE large (id int PRIMARY KEY, a text, b text, c text) PARTITION BY HASH (id);
INSERT INTO large VALUES (1, repeat('x', 1048576), NULL, NULL);
INSERT INTO large VALUES (2, repeat('x', 1048577), NULL, NULL);
-- The int takes 4 bytes of the row: 2 MB to the byte, and one more.
INSERT INTO large VALUES (3, repeat('x', 1048576), repeat('y', 1048571), 'z');
INSERT INTO large VALUES (4, repeat('x', 1048576), repeat('y', 1048572), 'z');
SELECT id, length(a) AS a, length(b) AS b, length(c) AS c FROM large ORDER BY id;
INSERT INTO large SELECT i, repeat('x', 1048576), NULL, NULL FROM generate_series(10, 60) AS i;
SELECT a FROM large;
SELECT count(*) FROM large;

-- Several statements in one message are one transaction.
INSERT INTO account VALUES (5, 'eve', 5, NULL)\; INSERT INTO account VALUES (5, 'eve', 5, NULL);
SELECT count(*) FROM account;
DROP TABLE large;
