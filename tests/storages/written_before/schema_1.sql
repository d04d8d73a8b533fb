BEGIN TRANSACTION;
CREATE TABLE anysaga_circuits (
	name VARCHAR(700) NOT NULL, 
	version BIGINT NOT NULL, 
	text TEXT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	PRIMARY KEY (name)
)
 WITHOUT ROWID

;
CREATE TABLE anysaga_entries (
	saga_id VARCHAR(200) NOT NULL, 
	seq BIGINT NOT NULL, 
	kind VARCHAR(16) NOT NULL, 
	path TEXT NOT NULL, 
	attempt BIGINT NOT NULL, 
	context TEXT, 
	response TEXT, 
	error TEXT, 
	outcome VARCHAR(16), 
	wait DOUBLE, 
	caught TEXT, 
	duration DOUBLE, 
	fence BIGINT NOT NULL, 
	at BIGINT NOT NULL, 
	PRIMARY KEY (saga_id, seq)
)
 WITHOUT ROWID

;
INSERT INTO "anysaga_entries" VALUES('order-1',1,'STARTED','1',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,1795246572417153);
INSERT INTO "anysaga_entries" VALUES('order-1',2,'DONE','1',1,'{"number":"1","reserved":true,"paid":false}',NULL,NULL,NULL,NULL,NULL,2.17199999497097451239e-05,1,1795246572430543);
INSERT INTO "anysaga_entries" VALUES('order-1',3,'STARTED','2',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,1795246572430543);
INSERT INTO "anysaga_entries" VALUES('order-1',4,'DONE','2',1,'{"number":"1","reserved":true,"paid":true}',NULL,NULL,NULL,NULL,NULL,1.51079998431669082492e-05,1,1795246572432274);
INSERT INTO "anysaga_entries" VALUES('order-1',5,'COMPLETED','',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,1795246572432274);
INSERT INTO "anysaga_entries" VALUES('order-2',1,'STARTED','1',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,1795246572435751);
INSERT INTO "anysaga_entries" VALUES('order-2',2,'DONE','1',1,'{"number":"2","reserved":true,"paid":false}',NULL,NULL,NULL,NULL,NULL,1.24429998322739265859e-05,1,1795246572438179);
INSERT INTO "anysaga_entries" VALUES('order-2',3,'STARTED','2',1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,1795246572438179);
INSERT INTO "anysaga_entries" VALUES('order-2',4,'WITHDRAWN','2',0,NULL,NULL,NULL,NULL,NULL,NULL,NULL,1,1795246572440101);
CREATE TABLE anysaga_meta (
	name VARCHAR(32) NOT NULL, 
	value BIGINT NOT NULL, 
	PRIMARY KEY (name)
)
 WITHOUT ROWID

;
INSERT INTO "anysaga_meta" VALUES('schema_version',1);
CREATE TABLE anysaga_owners (
	id VARCHAR(32) NOT NULL, 
	label VARCHAR(200) NOT NULL, 
	expires_at BIGINT NOT NULL, 
	dead SMALLINT NOT NULL, 
	PRIMARY KEY (id)
)
 WITHOUT ROWID

;
CREATE TABLE anysaga_sagas (
	id VARCHAR(200) NOT NULL, 
	name VARCHAR(200) NOT NULL, 
	version BIGINT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	live SMALLINT NOT NULL, 
	owner VARCHAR(32), 
	fence BIGINT NOT NULL, 
	seq BIGINT NOT NULL, 
	claims BIGINT NOT NULL, 
	created_at BIGINT NOT NULL, 
	updated_at BIGINT NOT NULL, 
	next_attempt_at BIGINT NOT NULL, 
	deadline BIGINT, 
	ended_at BIGINT, 
	note TEXT, 
	PRIMARY KEY (id)
)
 WITHOUT ROWID

;
INSERT INTO "anysaga_sagas" VALUES('order-1','order',1,'COMPLETED',0,NULL,1,5,0,1795246572417153,1795246572432274,1795246572432274,NULL,1795246572432274,NULL);
INSERT INTO "anysaga_sagas" VALUES('order-2','order',1,'RUNNING',1,NULL,1,4,0,1795246572435751,1795246572440101,1795246572440101,NULL,NULL,NULL);
INSERT INTO "anysaga_sagas" VALUES('order-3','order',1,'PENDING',1,NULL,1,0,0,1795246572442604,1795246572442604,1795246572445399,NULL,NULL,NULL);
CREATE TABLE anysaga_starts (
	saga_id VARCHAR(200) NOT NULL, 
	outline TEXT NOT NULL, 
	digest TEXT NOT NULL, 
	context TEXT NOT NULL, 
	PRIMARY KEY (saga_id)
)
 WITHOUT ROWID

;
INSERT INTO "anysaga_starts" VALUES('order-1','[["1","Reserve","step"],["2","Pay","step"]]','d92e81020fe1779a6429be297c444bea788d0faf5b7ef54bb79d74c28dcda45b','{"number":"1","reserved":false,"paid":false}');
INSERT INTO "anysaga_starts" VALUES('order-2','[["1","Reserve","step"],["2","Pay","step"]]','bff50088753cc6c30015fb794a9755f4ee92c56b147c5a939cb315d4b3580686','{"number":"2","reserved":false,"paid":false}');
INSERT INTO "anysaga_starts" VALUES('order-3','[["1","Reserve","step"],["2","Pay","step"]]','0a65fc9760eb629cdf4969cd913a40db60c2200cbe498eff4c900a158ee7bc20','{"number":"3","reserved":false,"paid":false}');
CREATE INDEX anysaga_sagas_due ON anysaga_sagas (live, next_attempt_at, id);
CREATE INDEX anysaga_sagas_name ON anysaga_sagas (name, state, id);
CREATE INDEX anysaga_sagas_ended ON anysaga_sagas (state, ended_at);
CREATE INDEX anysaga_sagas_state ON anysaga_sagas (state, id);
COMMIT;
