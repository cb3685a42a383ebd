create table t (a int primary key, b text not null default 'x', c varchar(3) unique, d float8, unique (b, d))
create table t (a int)
create table if not exists t (a int)
create table t_pkey (a int)
create index t on t (a)
create index i on t (d)
create index i on t (d)
create index if not exists i on t (d)
create index on t (d)
create index on t (d, b)
create index on t (d)
create index on t using hash (b)
create unique index on t (b)
create index on t (nope)
create index on nope (a)
drop index i
drop index i
drop index if exists i
drop index t_d_idx, t_d_b_idx
drop index t_pkey
drop index t
drop table t_pkey
drop table nope, t
drop table t
drop table t
drop table if exists t, nope
select * from t
create table t (a int, a text)
create table t (a int primary key, b int primary key)
create table t (a int, primary key (b))
create table t (a int, primary key (a, a))
create table t (a int default 'x')
create table t (a int default true)
create table t (a int default b)
create table t (a int default $1)
create table t (a int default sum(1))
create table t (a int default 1+1, b text default upper('q') || 'z', c timestamptz default now(), d bigint default -5, e bool default not true)
insert into t values (1), (default)
select a, b, c is not null, d, e from t order by a
drop table t
create table p (k bigint primary key, v text) partition by hash (k)
create table q (k bigint primary key, v text) partition by hash (v)
create table q (k bigint, v text unique, primary key (k)) partition by hash (k)
create table q (k bigint, v text, unique (v, k)) partition by hash (k)
create table r (k bigint) partition by hash (nope)
create unique index on p (v)
create unique index on p (v, k)
insert into p select g, 'v' || g from generate_series(1, 100) g
select count(*), min(k), max(k) from p
select v from p where k = 77
select k from p where v = 'v78'
select k from p order by k limit 3
select k from p order by k desc limit 2 offset 1
update p set v = 'w' where k between 10 and 12
select k from p where v = 'w' order by k
update p set k = k + 1000 where k = 5
select k, v from p where k in (5, 1005)
delete from p where k > 50
select count(*) from p
insert into p values (1, 'dup')
create table dbos.x (a int)
create table prov.x (a int)
create table nosuch.x (a int)
create table public.x (a int)
drop table public.x
drop table dbos.task
create index on dbos.task (state)
select count(*) from dbos.task
select count(*) from dbos.model
insert into dbos.model values (1,1,'x','y',1,1,1)
update dbos.task set state = 1
delete from dbos.catalog
create function add(a int, b int) returns int language sql as $$ select $1 + $2 $$
select add(1, 2)
select add(1, 2) as sum
select add('3', 4)
select add(1)
select add(1, 'x')
select add(1, true)
select add(1, 2) + 1
call add(1, 2)
create function add(a int, b int) returns int language sql as $$ select $1 - $2 $$
create or replace function add(a int, b int) returns int language sql as $$ select $1 - $2 $$
select add(1, 2)
create procedure put(k bigint, v text) language sql as $$ insert into p values ($1, $2) $$
call put(2001, 'called')
call put(2001, 'called')
select v from p where k = 2001
select put(1, 'x')
call put(1)
call nosuch()
select nosuch()
drop table p
drop procedure add
drop function add
drop function add
drop function if exists add
drop procedure put
create function f() returns int language sql as $$ selec 1 $$
create function f() returns int language sql as $$ select nope from p $$
create function f() returns int language sql
create function f() returns int as 'x'
create function f() returns int language sql as 'a', 'b'
create function f() language sql as 'select 1'
create function f() returns int language c as '/nonexistent.so', 'f'
drop table p
