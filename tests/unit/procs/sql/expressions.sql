create table t (id int primary key, s smallint, b bigint, r float8, v varchar(5), x text, y bytea, f bool, z timestamptz default '2024-01-01 00:00:00+00')
insert into t values (1,1,1,1.25,'ab','hello','\x00ff',true,'2024-02-29 12:34:56.789+02'),(2,2,null,null,null,null,null,null,null)
select * from t where id=1
select id from t where id = '1'
select id from t where id = 'x'
select id from t where x = 5
select id from t where id = 1.0
select s+id, s*s, s+1, b+s, s/2, id%2, id^2 from t
select 32767::smallint+1::smallint
select -(-32768)::smallint, (-32768)::smallint
select abs(-5), abs(-5.5), round(2.5), round(-1.5), floor(1.7), ceil(1.2), mod(7,3), sqrt(16), power(2,10), sign(-3.2)
select length('héllo'), char_length('abc'), octet_length('é'), lower('ABC'), upper('abc'), length('\x0102'::bytea)
select substr('hello',2,3), substring('hello' from 2), substring('hello' from 2 for 2), substring('hello',-1,4), trim('  a '), ltrim('xxa','x'), rtrim('axx','x'), trim(both 'x' from 'xax')
select replace('abcabc','b','XX'), position('c' in 'abc'), strpos('abc','z'), concat('a',1,null,true), coalesce(null,2), nullif(1,1), nullif(1,2), greatest(1,3,2), least(1,null,0)
select left('hello',2), right('hello',2), left('hello',-2), right('hello',-2), repeat('ab',3)
select substring('abc' from 1 for -1)
select extract(epoch from '2024-01-01 00:00:00+00'::timestamptz)::float8, date_part('year','2024-05-06 00:00:00+00'::timestamptz), date_part('dow','2024-05-06 00:00:00+00'::timestamptz), date_part('week', '2021-01-03 00:00+00'::timestamptz), date_part('doy','2024-12-31 00:00+00'::timestamptz)
select date_trunc('month','2024-05-06 07:08:09.1234+00'::timestamptz), date_trunc('hour','1969-05-06 07:08:09.1234+00'::timestamptz), date_trunc('week','2024-05-05 07:08:09+00'::timestamptz), date_trunc('quarter','2024-05-05 07:08:09+00'::timestamptz)
select date_trunc('foo',now())
select md5('hello'), md5(''), md5('\x00'::bytea), encode('\x0001feff'::bytea,'hex'), encode('hello world'::bytea,'base64'), decode('aGVsbG8=','base64'), decode('00fF','hex'), get_byte('\x0102'::bytea,1), to_hex(255), to_hex(-1)
select decode('zz','hex')
select get_byte('\x01'::bytea,5)
select 'abc' like 'a%', 'abc' like '_b_', 'abc' like 'a\%', 'ABC' ilike 'a%', 'abc' not like 'x%', '' like '%', 'a%c' like 'a\%c', 'mississippi' like '%iss%ip%i'
select 'abc' like 'a\'
select 1 in (1,2), 3 in (1,2), 1 not in (2,null), null in (1), 2 between 1 and 3, 2 not between 1 and 3, 2 between symmetric 3 and 1
select null is null, 1 is not null, true is true, null is not true, false is unknown, 1 is distinct from null, null is not distinct from null
select case when 1=1 then 'a' else 'b' end, case 2 when 1 then 'x' when 2 then 'y' end, case when false then 1 end, case when true then 1 else 2.5 end
select case when true then 1 else 'x' end
select case when true then 1 else true end
select coalesce(1,'a')
select coalesce('a','b'), coalesce(null,null)
select 1::text||'x', 't'::bool, 'yes'::bool, true::text, true::int, 0::bool, 5::bool, 1.5::int, 2.5::int, -1.5::int, '1.5'::float8
select 1::bytea
select 1::int8::bool
select true + 1
select 'a' + 'b'
select '1' + 1, 1 + '1'
select 'x' + 1
select -'1'
select 1 || 2
select 1 = true
select 1 = 'a'
select 'a' < 'b', true > false, '\x01'::bytea < '\x02'::bytea
select not 1
select 1 and true
select true and null, false and null, true or null, null or null, not null
select 1 where 1
select id from t where x
select 99999999999::int
select 3000000000::smallint
select 1e308*10
select 1e-308/1e300
select 0.0/0
select 'NaN'::float8, 'infinity'::float8, '-0'::float8, 1e20, 1e15, 123456789.123, 1e-5
select '2024-13-01'::timestamptz
select 'foo'::timestamptz
select 'foo'::bool
select ''::int
select '99999999999'::int
select 'é' + 'x'
select 'é' || nope
select foo(1), foo()
select foo(id, 'x') from t
select concat_ws(',', 'a', null, 1), lpad('x',3,'ab'), rpad('xyz',2), lpad('é',4,'ö'), reverse('aé'), split_part('a,b,c',',',2), split_part('a,b,c',',',-1), ascii('é'), chr(233), starts_with('abc','ab')
select 5 & 3, 5 | 3, 5 # 3, 1 << 4, -16 >> 2, ~5
select exp(0), ln(1), log(100), pi(), trunc(-1.7)
select sqrt(-1)
select ln(0)
select power(0,-1)
select power(-8, 0.5)
select pg_typeof(1), pg_typeof('x'::text), current_database(), current_schema()
select to_timestamp(1.5), '2024-02-29 12:00+00'::timestamptz = '2024-02-29 13:00+01'
select 9223372036854775807 + 1
select -9223372036854775808
select (-9223372036854775808) / -1
select (-9223372036854775808) % -1
select 9223372036854775808
select 1 <> 2, 1 != 2, 2 >= 1, 'a' <= 'b'
select t.id, tt.id from t
select tt.id from t tt
select t.id from t tt
select t.* from t tt
select *
select x.* from t
select 1 as "Mixed Case", 2 "a""b"
selec 1
select 1 +
select 1; select 2
select 'unterminated
select 1 from t where

select ((((((1))))))
select /* comment */ 1 -- more
select current_user = session_user
