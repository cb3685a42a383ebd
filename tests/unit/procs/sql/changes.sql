create table t (id int primary key, s smallint, b bigint, r float8, v varchar(5), x text, y bytea, f bool, z timestamptz default '2024-01-01 00:00:00+00')
insert into t values (1,1,1,1.25,'ab','hello','\x00ff',true,'2024-02-29 12:34:56.789+02'),(2,2,null,null,null,null,null,null,null)
insert into t(id,x) select g, 'n'||g from generate_series(10,12) g
insert into t(id,x,z) select 20, 'lit', '2020-01-01 00:00+00'
select id, x, z from t where id >= 20
insert into t(id) values (30) returning id, id*2 as dbl, x
update t set s = s + 1 where id = 1 returning id, s
update t set nope = 1
update t set id = 1, id = 2
delete from t where id in (10,11,12) returning id
insert into t(id,nope) values (1,2)
insert into t(id,id) values (1,2)
insert into t(id) values (1,2)
insert into t(id,x) values (1)
insert into t values (1),(2,3)
insert into t(id,x) values ('a','b')
insert into t(id,x) values (true,'b')
insert into t(id,f) values (41,1)
insert into t(id,v) values (42,'abc  ')
insert into t(id,v) values (43,'abc        ')
select id, v, length(v) from t where id in (42,43)
insert into t(id,x) values (44,5), (45,true), (46,1.5)
select x from t where id between 44 and 46
insert into t(id,s) values (50,70000)
insert into t(id,s) values (50,1.6)
select s from t where id = 50
insert into t default values
insert into t(id,z) values (51,default)
select z is not null from t where id=51
update t set z = default where id = 51
delete from t where id = 30 returning id
update t set x = null where id = 1
update t set id = 2 where id = 1
update t set id = id + 1000 where id > 40 returning id
update t set id = id + 1
update t set b = id * 2, id = id + 5000 where id = 20 returning id, b
update t set v = 'toolong' where id = 2
update t set s = 'x' where id = 2
update t set s = x
update t set s = count(*)
update nope set a = 1
update t set s = 1 where nope
delete from nope
delete from t where nope
delete from t where id = 1 returning nope
delete from t
select count(*) from t
create table u (a int, b text default 'd')
insert into u select 1
insert into u select 1, 'x', 2
insert into u(b) select 'only b'
insert into u select a + 10, b from u
insert into u (a) select a from u where a is not null returning a, b
select a, b from u order by a nulls first, b
insert into u values (1, 'x'), ('2', default), (default, null)
insert into u select 'x'
insert into u select count(*), max(b) from u
insert into nope values (1)
update u set a = a + 1 where a is not null returning *
insert into u(a) values (sum(1))
insert into u(a) values (a)
insert into u(a) values (2147483648)
insert into u(a) values ('2147483648')
