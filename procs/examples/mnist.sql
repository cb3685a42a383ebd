-- The tables and procedures of the image workflow: psql -f procs/examples/mnist.sql
-- Images are raw bytes (784 of 28 x 28); a batch is what fits into one task (1,200 images).
CREATE TABLE images (
    batch int NOT NULL,
    id int NOT NULL,
    label smallint NOT NULL,
    pixels bytea NOT NULL,
    PRIMARY KEY (batch, id)
) PARTITION BY HASH (batch);
CREATE TABLE predictions (
    batch int NOT NULL,
    id int NOT NULL,
    label smallint NOT NULL,
    probability double precision NOT NULL,
    task bigint NOT NULL,
    PRIMARY KEY (batch, id)
) PARTITION BY HASH (batch);
CREATE TABLE runs (
    batch int NOT NULL,
    task bigint NOT NULL,
    images int NOT NULL,
    exec_us bigint NOT NULL,
    error text,
    PRIMARY KEY (batch, task)
) PARTITION BY HASH (batch);
CREATE TABLE trainings (
    task bigint PRIMARY KEY,
    version int,
    exec_us bigint,
    error text
);
CREATE PROCEDURE train_done(task bigint, context bytea, error text)
    LANGUAGE c AS 'mnist.so', 'train_done';
CREATE FUNCTION train_open(pieces int) RETURNS bigint LANGUAGE c AS 'mnist.so', 'train_open';
CREATE FUNCTION train_add(batch int, task bigint, piece int) RETURNS int
    LANGUAGE c AS 'mnist.so', 'train_add';
CREATE PROCEDURE classified(task bigint, context bytea, error text)
    LANGUAGE c AS 'mnist.so', 'classified';
CREATE FUNCTION classify(batch int) RETURNS bigint LANGUAGE c AS 'mnist.so', 'classify';
