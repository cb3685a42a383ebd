create table t (id int primary key, s smallint, b bigint, r float8, v varchar(5), x text, y bytea, f bool, z timestamptz default '2024-01-01 00:00:00+00')
insert into t values (1,1,1,1.25,'ab','hello','\x00ff',true,'2024-02-29 12:34:56.789+02'),(2,2,null,null,null,null,null,null,null)
insert into t(id,s,x) values (3,5,'same'),(4,5,'same'),(5,null,'other')
create index on t (s)
create index on t using hash (x)
select count(*) from t where 1
select sum(x) from t
select sum('1')
select count()
select sum(*) from t
select min(f) from t
select sum(sum(id)) from t
select id from t where count(*) > 1
select id from t group by count(*)
select count(distinct id) from t
select id, x from t group by id
select x, id from t group by x
select x as q, count(*) from t group by q
select x, count(*) from t group by 1 order by 2, 1
select id from t order by 5
select id from t group by 5
select id from t order by 'a'
select id as a, s as a from t order by a
select distinct f from t order by id
select distinct f from t order by f
select distinct f from t order by f nulls first
select id from t order by b desc, id
select id from t order by b desc nulls last, id
select id from t limit -1
select id from t offset -1
select id from t limit null offset 1
select id from t limit 'x'
select id from t limit id
select id from t limit 1.5
select * from generate_series(1,3)
select g*2 as d from generate_series(1,10,3) as s(g) where g > 2
select * from generate_series(3,1,-1) g
select count(*) from generate_series(1,0)
select * from generate_series(1,2,0)
select g, count(*) from generate_series(1,6) g group by g%2, g order by g limit 2
select g%2, sum(g) from generate_series(1,6) g group by g%2 order by 1
select g%2+1, sum(g)+1 from generate_series(1,6) g group by g%2 having sum(g) > 9 order by 1
select id from t where s = 5 order by id
select id from t where s > 1 order by id
select id from t where s >= 2 and s < 5 order by id
select id from t where 5 > s order by id
select id from t where s = 99999
select id from t where s < 99999 order by id
select id from t where s > 99999
select id from t where s = null
select id from t where x = 'same' order by id
select id from t where x = 'same' and id = 4
select id from t where id = 3 and id = 4
select id from t where id = 3.0
select id from t where id = 3000000000
select id from t order by s limit 2
select id from t order by s desc limit 2
select id, s from t where s = 5 order by s, id
select s, count(*), sum(id) from t group by s order by s nulls first
select count(*), max(x) from t where id > 100
select sum(id) from t where id > 100 having count(*) > 0
select max(id) + min(id), 'c' || count(*) from t
select count(*) from t group by id having false
select distinct s from t order by s
select distinct s, x from t order by 2, 1 limit 2
select id % 2 as parity, avg(id), count(s) from t group by parity order by parity
select sum(b) from generate_series(9223372036854775806, 9223372036854775807) b
select avg(r), sum(r) from t
select min(z), max(y), min(f) from t
select nope.id from t
select id from t where nope = 1
select id from t order by nope
select id from t group by nope
select id from nope
select id from public.t where id = 1
select id from dbos.t
select generate_series from generate_series(1,2)
select id from t a where a.id = 1 and t.id = 1
select id from t where id = 4 and (s = 5 and id = 4)
select id from t where id = 4 and s = 6
select id from t where 4 = id and id = 5 - 1
select id from t where id = 4 and id = 5 - 2
select id from t where id = 4 or id = 5 order by id
select id from t where id = 4 and (s = 6 or x = 'same')
select count(*), max(x) from t where id = 4 and s = 6
select id from t where id = 4 limit 0
select id from t where id = 4 offset 1
select distinct s from t where id = 4 order by s
select id, 10 / (s - 5) from t where id = 4
select id from t where id = 1 / 0
select id from t where id = null and s = 5
create table two (a int, b text, c int, primary key (a, b))
insert into two values (1, 'x', 10), (1, 'y', 20), (2, 'x', 30)
select c from two where b = 'x' and a = 1
select c from two where a = 1 and b = 'x' and c = 11
select c from two where a = 1 and c = 20 and b = 'y' and a < 2
select c from two where a = 1 and b < 'y'
update two set c = c + 1 where a = 1 and b = 'x' and c = 99 returning *
update two set c = c + 1, b = b || b where a = 1 and b = 'x' and c = 10 returning *
delete from two where a = 1 and b = 'y' and c = 21 returning *
delete from two where b = 'y' and a = 1 returning *
select * from two order by a, b
