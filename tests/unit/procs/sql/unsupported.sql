create table t (a int primary key, b text)
begin
commit
rollback
start transaction
savepoint x
copy t from stdin
explain select 1
alter table t add column c int
create view v as select 1
create schema s
create role r
create sequence s
create type x as enum ('a')
create trigger x after insert on t execute function f()
create materialized view v as select 1
create table u as select 1
truncate t
grant select on t to public
vacuum
analyze t
listen x
prepare p as select 1
execute p
deallocate p
discard all
lock table t
comment on table t is 'x'
do $$ begin end $$
declare c cursor for select 1
fetch c
merge into t using t u on true when matched then do nothing
select * from t, t u
select * from t join t u on true
select * from t left join t u using (a)
select * from (select 1) x
select * from t where a in (select 1)
select (select 1)
select exists(select 1)
with x as (select 1) select * from x
select 1 union select 2
select 1 intersect select 2
values (1)
table t
select a into u from t
select sum(a) over () from t
select count(*) filter (where a > 1) from t
select count(distinct a) from t
select distinct on (a) a from t
select a from t group by cube (a)
select a from t for update
select * from t tablesample system (1)
select a from t fetch first 1 row with ties
select array[1]
select a[1] from t
select row(1,2)
select a = any('{1}') from t
select b collate "C" from t
select b ~ 'x' from t
select b similar to 'x' from t
select b like 'x' escape 'y' from t
select current_date
select localtime
select b'101'
select 1::numeric
select '1'::numeric(10,2)
select '2024-01-01'::date
select '1 day'::interval
select '{}'::json
select '{1}'::int[]
select 1::nosuchtype
select now() - now()
insert into t values (1) on conflict do nothing
with x as (select 1) insert into t values (1)
update t set a = 1 from t u
update t set (a,b) = (1,'x')
delete from t using t u
create temp table u (a int)
create unlogged table u (a int)
create table u (a int) inherits (t)
create table u (like t)
create table u (a serial)
create table u (a int check (a > 0))
create table u (a int references t)
create table u (a int generated always as identity)
create table u (a int, foreign key (a) references t)
create table u (a int) partition by range (a)
create table u (a int, b int) partition by hash (a, b)
create table u partition of t for values in (1)
create table u (a int) with (fillfactor=10)
create table u (a int unique deferrable)
create table u (a numeric(3))
create table u (a timestamp)
create table u (a int[])
create table u (a varchar(0))
create table u (a char(3))
create index on t ((a+1))
create index on t (a) where a > 1
create index on t using gin (b)
create index on t (a desc)
create index concurrently on t (a)
create index on t (a) include (b)
drop view v
drop table t cascade
create function f(out a int) language sql as 'select 1'
create function f() returns setof int language sql as 'select 1'
create function f() returns table (a int) language sql as 'select 1'
create function f() returns trigger language sql as 'select 1'
create function f() returns int language plpgsql as 'begin end'
create function f() returns int strict language sql as 'select 1'
create function f(a int default 1) returns int language sql as 'select 1'
create function f() returns int language sql return 1
create function f() returns int set search_path = x language sql as 'select 1'
set transaction isolation level serializable
select * from pg_sleep(1)
select * from pg_class
select pg_sleep(1)
