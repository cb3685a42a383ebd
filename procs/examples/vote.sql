-- The Vote benchmark: psql -h 127.0.0.1 -p 5433 -d dbos -f procs/examples/vote.sql
-- vote.so lies in lib/dbos beside the programs, where the server looks for relative names.
DROP FUNCTION IF EXISTS vote;
DROP FUNCTION IF EXISTS vote_hot;
DROP TABLE IF EXISTS contestants;
DROP TABLE IF EXISTS votes;
DROP TABLE IF EXISTS phone_votes;

CREATE TABLE contestants (id int PRIMARY KEY, name text NOT NULL, total bigint NOT NULL DEFAULT 0);
INSERT INTO contestants (id, name) VALUES
    (1, 'contestant 1'), (2, 'contestant 2'), (3, 'contestant 3'),
    (4, 'contestant 4'), (5, 'contestant 5'), (6, 'contestant 6');
CREATE TABLE votes (phone bigint NOT NULL, contestant int NOT NULL) PARTITION BY HASH (phone);
CREATE TABLE phone_votes (phone bigint PRIMARY KEY, n int NOT NULL) PARTITION BY HASH (phone);

CREATE FUNCTION vote(bigint, int, int) RETURNS int LANGUAGE c AS 'vote.so', 'vote';
CREATE FUNCTION vote_hot(bigint, int, int) RETURNS int LANGUAGE c AS 'vote.so', 'vote_hot';
